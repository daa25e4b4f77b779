"""Datasets on disk go in; manifests, protocols and batches of frames come out. Knows nothing of models."""
