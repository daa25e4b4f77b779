"""CLIP towers, prompts, coupling, methods, anchors and losses. Independent of datasets and runs."""
