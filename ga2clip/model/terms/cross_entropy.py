"""Softmax cross-entropy, optionally with the published anchor shift."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model.scoring import cosine
from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("cross_entropy", weight=lambda _: 1.0)
def cross_entropy(features: Features, settings: Settings) -> Tensor:
    """Softmax cross-entropy over the classes."""
    logits = features.logits
    if settings.anchors.weight and settings.anchors.loss == "published":
        logits = logits + settings.anchors.weight * features.scale * published_shift(features)
    return F.cross_entropy(logits, features.targets, label_smoothing=settings.loss.label_smoothing)


def published_shift(features: Features) -> Tensor:
    """The term (1, K) that the published GA2-CLIP adds to all cosines of a video: cosines of anchors and negatives.

    With one negative prompt it is the same number for all classes, which a softmax ignores: its gradient is zero. Kept
    for reproduction. Raises UserError if K is neither 1 nor C, for which the published code is not defined.
    """
    count = len(features.negatives)
    if count not in (1, len(features.classes)):
        raise UserError(
            f"the published anchor term is defined for one negative prompt, not {count}",
            """--set 'anchors.negatives=["else"]', or take --anchor-loss margin""",
        )
    if not len(features.anchors):
        return features.scale.new_zeros(1, count)
    return cosine(features.anchors, features.negatives).mean(dim=0, keepdim=True)
