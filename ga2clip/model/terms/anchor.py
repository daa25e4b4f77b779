"""Generic attribute anchors (GA2-CLIP, arXiv 2511.22125), as a term of its own so that it has a gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.scoring import cosine
from ga2clip.model.term import Features, Over, loss_term
from ga2clip.settings import Settings


def _weight(settings: Settings) -> float:
    """0 for the published term, which is part of the cross-entropy."""
    return 0.0 if settings.anchors.loss == "published" else settings.anchors.weight


def _needs(settings: Settings) -> tuple[str, ...]:
    return ("scenario", "frozen_anchors") if settings.anchors.loss == "preserve" else ()


def _over(settings: Settings) -> Over:
    return "anchors" if settings.anchors.per_step else "labelled"


@loss_term("anchor", needs=_needs, over=_over, weight=_weight)
def anchor(features: Features, settings: Settings) -> Tensor:
    """Anchor videos stay nearer to the negative prompts than to any class.

    An anchor video a, a class t and a frozen negative prompt n have the logits s = scale · cos:
    margin: softplus(max_t s(a, t) − max_n s(a, n) + scale · margin), mean over anchors;
    contrast: −log of the negatives' probability in a softmax over classes and negatives;
    preserve: see `_preserve`.
    With `per_step` 0 there are no anchor videos: the negative prompts repel the labelled ones, own class
    against nearest negative.
    """
    margin = features.scale * settings.anchors.margin
    if not settings.anchors.per_step:
        own = (features.logits * _one_hot(features)).sum(dim=-1)
        against = features.scale * cosine(features.video, features.negatives).amax(dim=-1)
        return F.softplus(against - own + margin).mean()
    if settings.anchors.loss == "preserve":
        return _preserve(features)
    to_classes = features.scale * cosine(features.anchors, features.classes)
    to_negatives = features.scale * cosine(features.anchors, features.negatives)
    if settings.anchors.loss == "contrast":
        everything = torch.cat([to_classes, to_negatives], dim=-1)
        return (everything.logsumexp(dim=-1) - to_negatives.logsumexp(dim=-1)).mean()
    return F.softplus(to_classes.amax(dim=-1) - to_negatives.amax(dim=-1) + margin).mean()


def _preserve(features: Features) -> Tensor:
    """KL(frozen ‖ tuned) of an anchor video's distribution over classes and negative prompts, mean over anchors.

    The paper's words: anchors "maintain the generic relevance of the attributes in the pre-trained semantic space".
    """
    assert features.scenario is not None
    assert features.frozen_anchors is not None
    before = torch.cat([features.scenario, features.negatives])
    after = torch.cat([features.classes, features.negatives])
    frozen = (features.scale * cosine(features.frozen_anchors, before)).log_softmax(dim=-1)
    tuned = (features.scale * cosine(features.anchors, after)).log_softmax(dim=-1)
    return F.kl_div(tuned, frozen, log_target=True, reduction="batchmean")


def _one_hot(features: Features) -> Tensor:
    if features.targets.ndim == 2:
        return features.targets
    return F.one_hot(features.targets, features.logits.shape[-1]).to(features.logits.dtype)
