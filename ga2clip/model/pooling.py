"""Frame features → video feature."""

from torch import Tensor


def pool(frames: Tensor) -> Tensor:
    """Unnormalised frame features (B, T, D) → (B, D): their mean."""
    return frames.mean(dim=1)
