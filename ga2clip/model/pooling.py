"""Pooling: from frame features (B, T, D) to video features (B, D).

The mean is what frozen features are compared as, and what every temporal pooling starts from. A temporal pooling is a
part (`Part.video_features`, the files `parts/pooling_*.py`) that adds to the mean.
"""

import torch
from torch import Tensor


def mean_pool(frames: Tensor) -> Tensor:
    """The mean of unnormalised frame features (B, T, D) over the frames: (B, D)."""
    return frames.mean(dim=1)


def spread(rows: Tensor, frames: Tensor) -> Tensor:
    """Positions (T, W) for frame features (B, T, D), from rows (N, W) that stand for N equal stretches of a video.

    Frame t of T lies at the relative time (t + ½) / T and row n at (n + ½) / N; between two rows the positions are
    interpolated, before the first and behind the last they stay. With T = N they are the rows themselves. So a pooling
    works for any number of frames, and the same moment of a video has the same position at every frame rate.
    """
    count, length = len(rows), frames.shape[1]
    at = (torch.arange(length, device=rows.device) + 0.5) * (count / length) - 0.5
    nearness = 1 - (at.clamp(0, count - 1)[:, None] - torch.arange(count, device=rows.device)).abs()
    return nearness.clamp(min=0).to(rows.dtype) @ rows
