"""CLIP towers, prompts, coupling, methods, anchors and losses; knows nothing of files or datasets."""
