"""Pooling: from frame features to a video feature."""

from torch import Tensor


def pool(frames: Tensor) -> Tensor:
    """The mean of unnormalised frame features (B, T, D) over the frames: (B, D)."""
    return frames.mean(dim=1)
