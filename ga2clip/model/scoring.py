"""Scores of videos against classes."""

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
