"""Processes, devices, precision, and clips to features in batches: what training and evaluation share."""
