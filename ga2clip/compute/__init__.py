"""What training and evaluation share: processes, devices, precision, and encoding clips in batches."""
