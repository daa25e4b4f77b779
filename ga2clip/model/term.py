"""`LossTerm` and `loss_term`: a pure function of features, with what it needs and its average; the sum of the terms.

A term is one file in `ga2clip/model/terms/`, or in a user's own package. Shapes: B labelled videos, A anchor
videos, C classes, K negative prompts, O words, D embedding width. Features are unnormalised unless said otherwise.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ga2clip.choices import ScoringRule
from ga2clip.errors import UserError
from ga2clip.registry import TERMS
from ga2clip.settings import Settings

NEEDS = ("scenario", "teacher", "frozen_video", "frozen_anchors", "words", "student")
"""What a term can ask for beside the tuned features; each is computed only where some term needs it. `words` are
the tuned and the frozen features of words outside the classes, `student` those of `Part.student_features`."""
FROZEN_VISION = frozenset({"frozen_video", "frozen_anchors"})
BOTH_SIDES: frozenset[str] = frozenset({"text", "vision"})
Over = Literal["labelled", "anchors", "classes"]
"""What a term averages over: labelled videos, anchor videos or classes."""


@dataclass
class Features:
    """The input of the loss terms."""

    video: Tensor
    """(B, D) labelled videos."""
    classes: Tensor
    """(C, D)"""
    logits: Tensor
    """(B, C) scale · cosine, plus the bias of a sigmoid model."""
    targets: Tensor
    """(B,) int64 class ids, or (B, C) soft labels."""
    scale: Tensor
    """() exp(logit_scale) of the backbone."""
    anchors: Tensor
    """(A, D) anchor videos; A may be 0."""
    negatives: Tensor
    """(K, D) frozen features of the negative prompts."""
    scoring: ScoringRule = "softmax"
    """How logits become probabilities: over all classes, or each on its own."""
    scenario: Tensor | None = None
    """(C, D) frozen features of the scenario template filled with the class names."""
    teacher: Tensor | None = None
    """(C, D) frozen features of the class names, the mean over the teacher's templates."""
    frozen_video: Tensor | None = None
    """(B, D) video features of the backbone without prompts."""
    frozen_anchors: Tensor | None = None
    """(A, D) the same of the anchor videos."""
    words: Tensor | None = None
    """(O, D) words outside the classes."""
    frozen_words: Tensor | None = None
    """(O, D) frozen features of those words, the mean over the teacher's templates."""
    student_video: Tensor | None = None
    """(B, D) what parts want compared with `frozen_video`."""
    student_classes: Tensor | None = None
    """(C, D) what parts want compared with `teacher`."""


Compute: TypeAlias = Callable[[Features, Settings], Tensor]


@dataclass(frozen=True)
class LossTerm:
    """A registered loss term.

    Attributes:
        name: its name in settings and metrics.
        compute: (features, settings) → scalar tensor, the mean over what `over` returns.
        needs: settings → the fields of `Features` that it reads, of `NEEDS`.
        over: settings → what it averages over.
        weight: settings → its factor in the total loss; 0 switches it off.
        compares: the sides whose features it depends on; a training in which none of them changes is refused.
    """

    name: str
    compute: Compute
    needs: Callable[[Settings], frozenset[str]]
    over: Callable[[Settings], Over]
    weight: Callable[[Settings], float]
    compares: frozenset[str]

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.compute.__doc__ or "").strip().partition("\n")[0]


def loss_term(
    name: str,
    *,
    needs: Collection[str] | Callable[[Settings], Collection[str]] = (),
    over: Over | Callable[[Settings], Over] = "labelled",
    weight: Callable[[Settings], float] | None = None,
    compares: Collection[str] = BOTH_SIDES,
) -> Callable[[Compute], Compute]:
    """Decorator that registers a function of (features, settings) as the loss term `name`.

    Args:
        name: its name in settings and metrics; must be the name of its file or entry point.
        needs: the frozen features that it reads, of `NEEDS`; or a function of the settings that returns them.
        over: what its value is the mean of; or a function of the settings that returns it. If an update is cut into
            micro-batches or spread over processes, the value of each piece is weighted by its share of these items.
        weight: a function of the settings that returns its factor; by default the setting `loss.NAME`.
        compares: `text`, `vision` or both: the sides whose features its value depends on. A training in which none of
            them changes is refused, since the term would do nothing there.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        ValueError: `compares` names another side.

    Example:
        >>> @loss_term("nuclear_norm")
        ... def nuclear_norm(features, settings):
        ...     return features.logits.softmax(-1).norm(p="nuc") / len(features.logits)
    """

    if unknown := set(compares) - BOTH_SIDES:
        raise ValueError(f"the loss term '{name}' compares {sorted(unknown)}: text and vision are the sides")

    def keep(compute: Compute) -> Compute:
        wanted = needs if callable(needs) else lambda _: needs
        mean_of = over if callable(over) else lambda _: over
        factor = weight or (lambda settings: settings.loss.weight(name))
        TERMS.register(name)(
            LossTerm(name, compute, lambda s: frozenset(wanted(s)), mean_of, factor, frozenset(compares))
        )
        return compute

    return keep


def active_terms(settings: Settings) -> dict[LossTerm, float]:
    """The terms that the settings switch on, with their weights; cross-entropy first."""
    chosen = {"cross_entropy", "anchor", *settings.loss.terms()}
    terms = (TERMS[name] for name in sorted(chosen, key=_order))
    return {term: weight for term in terms if (weight := term.weight(settings))}


def needs_of(settings: Settings) -> frozenset[str]:
    """The fields of `Features` that the active terms need. Raises UserError for a field that is not in `NEEDS`."""
    needs: set[str] = set()
    for term in active_terms(settings):
        needed = term.needs(settings)
        if unknown := needed - set(NEEDS):
            raise UserError(
                f"the loss term '{term.name}' needs {min(unknown)!r}", f"valid: {', '.join(NEEDS)}"
            )
        needs |= needed
    return frozenset(needs)


def share_of_update(
    term: LossTerm, features: Features, settings: Settings, counts: tuple[int, int] | None
) -> float:
    """The weight of this batch's value of a term in the value for the whole update.

    counts: numbers of labelled and of anchor videos in the whole update; None: this batch is the whole update. A mean
    over classes is the same for every batch of an update, so it is weighted like the labelled videos. A mean over
    anchors counts `anchors.every` times, since the updates in between have none.
    """
    labelled, anchors = len(features.video), len(features.anchors)
    whole = counts or (labelled, anchors)
    if term.over(settings) == "anchors":
        return settings.anchors.every * anchors / max(whole[1], 1)
    return labelled / max(whole[0], 1)


class LossOutput(NamedTuple):
    """total: () the weighted sum to differentiate; terms: each term unweighted, detached; logits: (B, C) detached."""

    total: Tensor
    terms: dict[str, Tensor]
    logits: Tensor


def weighted_sum(
    terms: Mapping[LossTerm, float], features: Features, settings: Settings, counts: tuple[int, int] | None
) -> LossOutput:
    """The terms of a batch with their weights, each the batch's share of it; counts: as `share_of_update`."""
    values = {}
    for term in terms:
        share = share_of_update(term, features, settings, counts)
        zero = features.scale.new_zeros(())
        values[term] = share * term.compute(features, settings) if share else zero
    total = torch.stack([terms[term] * value for term, value in values.items()]).sum()
    unweighted = {term.name: value.detach() for term, value in values.items()}
    return LossOutput(total, unweighted, features.logits.detach())


def _order(name: str) -> tuple[bool, bool, str]:
    return name != "cross_entropy", name != "anchor", name
