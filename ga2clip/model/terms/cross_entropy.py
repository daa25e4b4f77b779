"""Cross-entropy by the backbone's scoring rule, optionally with the published anchor shift."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model.scoring import cosine
from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("cross_entropy", weight=lambda _: 1.0)
def cross_entropy(features: Features, settings: Settings) -> Tensor:
    """Softmax cross-entropy over the classes; the sigmoid loss for a sigmoid model.

    The sigmoid loss of a video is −Σ_c log σ(z_c · l_c) over its logits l_c = scale · cos + bias, with z_c = 1 for its
    class and −1 for the others (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, eq. 1, with
    videos and classes for images and texts), mean over videos. Soft labels y_c, smoothed ones too, are the weights of
    both cases: −Σ_c [y_c log σ(l_c) + (1 − y_c) log σ(−l_c)].
    """
    logits = features.logits
    if settings.anchors.weight and settings.anchors.loss == "published":
        logits = logits + settings.anchors.weight * features.scale * published_shift(features)
    if features.scoring == "sigmoid":
        return _sigmoid_loss(logits, features.targets, settings.loss.label_smoothing)
    return F.cross_entropy(logits, features.targets, label_smoothing=settings.loss.label_smoothing)


def _sigmoid_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The sigmoid loss of logits (B, C): a scalar. smoothing: the share of a label that is spread over all classes."""
    hard = F.one_hot(targets, logits.shape[-1]) if targets.ndim == 1 else targets
    labels = (1 - smoothing) * hard.to(logits.dtype) + smoothing / logits.shape[-1]
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=-1).mean()


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
