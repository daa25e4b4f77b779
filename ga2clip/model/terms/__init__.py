"""One file per loss term."""
