"""MixUp and CutMix of clip tensors (B, T, 3, H, W), with soft labels (B, C).

MixUp (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019), the same for all frames of a clip.
"""

import math

import numpy as np
import torch
from torch.nn.functional import one_hot

from ga2clip.settings import AugmentSettings


def mix_clips(
    video: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each labelled clip of a batch with another one; if both methods are on, one of them is chosen at random.

    video: float (B+A, T, 3, H, W), the anchors last; they are not mixed. labels: int64 (B+A,), -1: anchor.
    Returns the mixed video and float targets (B, C) that sum to 1; with both methods off, the same video and one-hot
    targets.
    """
    count = int((labels >= 0).sum())
    targets = one_hot(labels[:count], classes).to(video.dtype)
    methods = [
        (name, alpha) for name, alpha in (("mixup", settings.mixup), ("cutmix", settings.cutmix)) if alpha
    ]
    if not methods or count < 2:
        return video, targets
    name, alpha = methods[rng.integers(len(methods))]
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(count)).to(video.device)
    mixed = video.clone()
    clips = video[:count]
    if name == "mixup":
        mixed[:count] = share * clips + (1 - share) * clips[partner]
    else:
        top, left, bottom, right = _random_patch(clips.shape[-2:], 1 - share, rng)
        mixed[:count, ..., top:bottom, left:right] = clips[partner, ..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / math.prod(clips.shape[-2:])
    return mixed, share * targets + (1 - share) * targets[partner]


def _random_patch(shape: torch.Size, area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random patch (top, left, bottom, right) with about the fraction `area` of the frame, clipped at its border."""
    height, width = shape
    half_height, half_width = math.sqrt(area) * height / 2, math.sqrt(area) * width / 2
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    top, bottom = round(max(y - half_height, 0)), round(min(y + half_height, height))
    left, right = round(max(x - half_width, 0)), round(min(x + half_width, width))
    return top, left, bottom, right
