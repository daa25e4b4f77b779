"""Adapt CLIP to video action recognition: video → frames → prompted encoders → run."""
