"""Datasets on disk, manifests, protocols and batches of frames. Knows nothing of models."""
