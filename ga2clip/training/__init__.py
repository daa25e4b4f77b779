"""Training: the loop, one update, checkpoints, and what a run writes."""
