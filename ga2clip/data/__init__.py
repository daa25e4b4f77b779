"""Datasets on disk, manifests, protocols and batches of frames. Independent of models."""
