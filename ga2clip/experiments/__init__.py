"""Several runs as one question."""
