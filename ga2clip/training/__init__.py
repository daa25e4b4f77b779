"""Settings and batches go in, a run folder comes out."""
