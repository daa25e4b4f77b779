"""Features of a batch go in, named scalar loss terms come out; each has a weight in the settings.

Shapes: B labelled videos, A anchor videos, C classes, K negative prompts, D embedding width. Features are
unnormalised unless said otherwise; `scale` is exp(logit_scale) of the backbone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.settings import Settings


@dataclass
class Features:
    """What the loss terms look at."""

    video: Tensor
    """(B, D) labelled videos."""
    classes: Tensor
    """(C, D)"""
    logits: Tensor
    """(B, C) scale · cosine."""
    targets: Tensor
    """(B,) int64 class ids, or (B, C) soft labels."""
    scale: Tensor
    anchors: Tensor
    """(A, D) anchor videos; A may be 0."""
    negatives: Tensor | None = None
    """(K, D) frozen features of the negative prompts."""
    scenario: Tensor | None = None
    """(C, D) frozen features of the scenario template filled with the class names."""
    frozen_video: Tensor | None = None
    """(B, D) video features of the backbone without prompts."""
    frozen_anchors: Tensor | None = None
    """(A, D) the same of the anchor videos."""


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of every row of a (N, D) with every row of b (M, D): (N, M) float32.

    Autocast is off here: a temperature of 100 would turn bf16's rounding of a cosine into whole logits.
    """
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T


def cross_entropy(features: Features, settings: Settings) -> Tensor:
    """Softmax cross-entropy over the classes, with the published anchor shift where that is asked for."""
    logits = features.logits
    if settings.anchors.weight and settings.anchors.loss == "published":
        logits = logits + settings.anchors.weight * features.scale * published_shift(features)
    return F.cross_entropy(logits, features.targets, label_smoothing=settings.loss.label_smoothing)


def published_shift(features: Features) -> Tensor:
    """What the published GA2-CLIP step adds to all cosines of a video: cosines of anchor and negative prompts, (1, K).

    With one negative prompt that is one number for all classes, which a softmax ignores: its gradient is zero.
    Kept for reproduction. Errors: UserError where K is neither 1 nor C, for which the published step is not defined.
    """
    count = 0 if features.negatives is None else len(features.negatives)
    if features.negatives is None or count not in (1, len(features.classes)):
        raise UserError(
            f"the published anchor term is defined for one negative prompt, not {count}",
            """--set 'anchors.negatives=["else"]', or take --anchor-loss margin""",
        )
    if not len(features.anchors):
        return features.scale.new_zeros(1, count)
    return cosine(features.anchors, features.negatives).mean(dim=0, keepdim=True)


def anchor(features: Features, settings: Settings) -> Tensor:
    """Generic attribute anchors (GA2-CLIP, arXiv 2511.22125), as a term of its own so that it has a gradient.

    An anchor video a must be nearer to a frozen negative prompt n than to any class t, in logits s = scale · cos:
    margin: softplus(max_t s(a, t) − max_n s(a, n) + scale · margin), mean over anchors;
    contrast: −log of the softmax share that the negatives have among classes and negatives;
    preserve: see `_preserve`.
    With `per_step` 0 there are no anchor videos: the negative prompts repel the labelled ones, own class
    against nearest negative.
    """
    assert features.negatives is not None
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
    assert features.negatives is not None
    assert features.scenario is not None
    assert features.frozen_anchors is not None
    before = torch.cat([features.scenario, features.negatives])
    after = torch.cat([features.classes, features.negatives])
    frozen = (features.scale * cosine(features.frozen_anchors, before)).log_softmax(dim=-1)
    tuned = (features.scale * cosine(features.anchors, after)).log_softmax(dim=-1)
    return F.kl_div(tuned, frozen, log_target=True, reduction="batchmean")


def scenario(features: Features, _: Settings) -> Tensor:
    """1 − cos(class feature, frozen feature of "a video of a person doing {class}"), mean over classes.

    ViLT-CLIP (AAAI 2024); the abstract gives no formula, this is our reading.
    """
    assert features.scenario is not None
    return (1 - F.cosine_similarity(features.classes, features.scenario, dim=-1)).mean()


def kgcoop(features: Features, _: Settings) -> Tensor:
    """Squared Euclidean distance of normalised class features to the frozen ones: KgCoOp (CVPR 2023)."""
    assert features.scenario is not None
    difference = F.normalize(features.classes, dim=-1) - F.normalize(features.scenario, dim=-1)
    return difference.square().sum(dim=-1).mean()


def text_consistency(features: Features, _: Settings) -> Tensor:
    """L1 distance of normalised class features to the frozen ones: PromptSRC (ICCV 2023)."""
    assert features.scenario is not None
    return F.l1_loss(F.normalize(features.classes, dim=-1), F.normalize(features.scenario, dim=-1))


def image_consistency(features: Features, _: Settings) -> Tensor:
    """L1 distance of normalised video features to the frozen ones: PromptSRC."""
    assert features.frozen_video is not None
    return F.l1_loss(F.normalize(features.video, dim=-1), F.normalize(features.frozen_video, dim=-1))


def logit_consistency(features: Features, _: Settings) -> Tensor:
    """KL(tuned ‖ frozen) of the class distributions: PromptSRC."""
    assert features.frozen_video is not None
    assert features.scenario is not None
    frozen = features.scale * cosine(features.frozen_video, features.scenario)
    tuned = features.logits.log_softmax(dim=-1)
    return (tuned.exp() * (tuned - frozen.log_softmax(dim=-1))).sum(dim=-1).mean()


def _one_hot(features: Features) -> Tensor:
    if features.targets.ndim == 2:
        return features.targets
    return F.one_hot(features.targets, features.logits.shape[-1]).to(features.logits.dtype)


LossTerm = Callable[[Features, Settings], Tensor]

TERMS: dict[str, LossTerm] = {
    "cross_entropy": cross_entropy,
    "anchor": anchor,
    "scenario": scenario,
    "kgcoop": kgcoop,
    "text_consistency": text_consistency,
    "image_consistency": image_consistency,
    "logit_consistency": logit_consistency,
}


_ANCHOR_TERMS = {"anchor"}


def share_of_update(
    term: str, features: Features, settings: Settings, counts: tuple[int, int] | None
) -> float:
    """What part of the whole update's mean this batch's mean is; counts: (labelled, anchor) videos of the whole."""
    labelled, anchors = len(features.video), len(features.anchors)
    if term in _ANCHOR_TERMS and settings.anchors.per_step:
        return anchors / (counts[1] if counts else max(anchors, 1))
    return labelled / (counts[0] if counts else max(labelled, 1))


def active_terms(settings: Settings) -> dict[str, float]:
    """The terms that the settings switch on, with their weights; cross-entropy always, with weight 1."""
    weights = {"cross_entropy": 1.0, **settings.loss.model_dump(exclude={"label_smoothing"})}
    if settings.anchors.loss != "published":
        weights["anchor"] = settings.anchors.weight
    return {name: weights[name] for name in TERMS if weights.get(name)}
