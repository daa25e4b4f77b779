"""Scores of videos against classes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ga2clip.choices import ScoringRule


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of every row of a (N, D) with every row of b (M, D): (N, M) float32.

    Autocast is off here: multiplied by 100, the rounding error of a cosine in bf16 would be as large as 1 in a logit.
    """
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T


def class_probabilities(logits: Tensor, scoring: ScoringRule) -> Tensor:
    """Probabilities (…, C) of logits (…, C). Those of a sigmoid model don't add up to 1."""
    return logits.sigmoid() if scoring == "sigmoid" else logits.softmax(dim=-1)


def mean_directions(features: Tensor, counts: Sequence[int]) -> Tensor:
    """Class features (C, D) from the features (N, D) of their texts, of which each class has `counts` ones in turn.

    They are normalised, averaged and normalised again, as in CLIP's ensemble of templates (ICML 2021, sec. 3.1.4) and
    CuPL (ICCV 2023). The feature of a single text stays as it is, to the bit.
    """
    if all(count == 1 for count in counts):
        return features
    with torch.autocast(features.device.type, enabled=False):
        parts = features.float().split(list(counts))
        return torch.stack([part[0] if len(part) == 1 else _mean_direction(part) for part in parts])


def _mean_direction(part: Tensor) -> Tensor:
    return F.normalize(F.normalize(part, dim=-1).mean(dim=0), dim=-1)
