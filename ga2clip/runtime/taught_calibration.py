"""What examples say about the probabilities of a taught model, without torch.

Every example is held out once, in at most 16 turns, and scored by what the others teach. On these scores are fitted:

    share          of the rule in the scores, beside the zero-shot cosines (`chosen_share`)
    probe          weight of logistic regression in what tells the taught classes apart (`chosen_probe`)
    scale          the factor before the softmax under which held-out examples are most probable
    calibration    sets of classes that hold the truth, and scores of single classes with their thresholds; from 20
                   examples of classes on
    threshold      of "none of these": with 5 examples of that, the best cut between them and those of classes; without
                   any, a threshold of the bundle is moved so that it keeps as many held-out examples as before

A held-out example has one clip of its class less than the model knows in the end, so that sets are a little too large
rather than too small. Nothing here is about classes without examples: for those all of it is a guess.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ga2clip.choices import ScoringRule
from ga2clip.labels import comparable
from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.calibration_card import FEWEST, CalibrationCard, GroupCalibration
from ga2clip.runtime.card import RejectCard, TaughtCard
from ga2clip.runtime.fit_calibration import (
    FEWEST_OF_CLASS,
    KEPT,
    Sets,
    best_cut,
    best_f1_cut,
    errors_of,
    fit_sigmoid,
    misses_of,
    rounded,
    usual_cut,
)
from ga2clip.runtime.scoring import rejection_margin
from ga2clip.runtime.teaching import Head, Kind
from ga2clip.text import counted

FEWEST_OF_NONE = 5
"""Examples of "none of these", and as many of classes, to fit the threshold on."""
_TURNS = 16
_CLASS_TURNS = 8
_SHARES = np.array([0.05, *np.linspace(0.1, 1, 10)])
_SAFE = 0.4
_FEW = 5  # taught classes; more can win more clips of others
_MOST_OF_ONE_CLIP = 0.2
_SHARPER = 4.0  # than the model's softmax, so that a probability is nearly whether a clip is named rightly
_PROBES = (0.25, 0.5, 0.75)
_SCALES = 2.0 ** np.linspace(-3, 5, 65)


@dataclass(frozen=True)
class HeldOut:
    """Examples as the others score them.

    Attributes:
        scores: float64 (N, C), of the examples of classes.
        labels: int64 (N,), the rows of their classes.
        margins: (N,), their best score minus that of the best negative; -inf where there is no negative.
        none: (M,), margins of the examples of "none of these".
    """

    scores: np.ndarray
    labels: np.ndarray
    margins: np.ndarray
    none: np.ndarray

    @classmethod
    def of(cls, head: Head, negatives: np.ndarray) -> "HeldOut":
        """All examples of a head, one turn after the other. negatives: text features (K, D) of negative prompts."""
        numbers = {comparable(name): row for row, name in enumerate(head.classes)}
        items = head.examples.items
        turn = np.full(len(items), -1)
        rows = {kind: [i for i, e in enumerate(items) if e.kind == kind] for kind in ("class", "none")}
        for own in rows.values():
            turn[own] = np.arange(len(own)) % _TURNS
        scores, margins = np.zeros((len(items), len(head.classes))), np.full(len(items), -np.inf)
        if len(rows["class"]) > 1:
            for number in range(min(_TURNS, max(map(len, rows.values())))):
                out = turn == number
                rest = head.without(out)
                asked = rest.question(head.classes, head.texts, negatives)
                scores[out] = asked.of_classes(head.examples.features[out])
                if len(asked.negatives.offsets):
                    best = asked.negatives.scores(head.examples.features[out]).max(axis=1)
                    margins[out] = scores[out].max(axis=1) - best
        else:
            rows = {"class": [], "none": []}
        labels = [numbers[comparable(items[row].label)] for row in rows["class"]]
        return cls(
            scores[rows["class"]], np.array(labels, np.int64), margins[rows["class"]], margins[rows["none"]]
        )


@dataclass(frozen=True)
class TaughtProbabilities:
    """What is fitted; None where there are too few examples."""

    share: float
    probe: float
    scale: float
    calibration: CalibrationCard | None
    reject: RejectCard | None

    @classmethod
    def of(cls, card: TaughtCard) -> "TaughtProbabilities":
        """What the card of a taught bundle holds."""
        return cls(card.share, card.probe, card.scale, card.calibration, card.reject)

    def applied_to(self, head: Head) -> Head:
        """The head with the chosen share and probe and the fitted threshold."""
        threshold = self.reject.threshold if self.reject else None
        return replace(head, share=self.share, probe=self.probe, fitted_threshold=threshold)

    @classmethod
    def fit(cls, head: Head, negatives: np.ndarray, rule: ScoringRule) -> "TaughtProbabilities":
        """Of a taught model with these negative prompts (K, D).

        A sigmoid is fitted over many more pairs than a few examples make: it keeps its scale, and needs no other
        calibration, as each class has a probability of its own.
        """
        head = chosen(head)
        held = HeldOut.of(head, negatives)
        reject = _fit_threshold(head, held, negatives)
        if rule == "sigmoid":
            return cls(head.share, head.probe, head.scale_before, None, reject)
        scale = fitted_scale(head, held)
        return cls(head.share, head.probe, scale, _fit_calibration(head, held, scale), reject)


def lacking_for_threshold(kinds: Iterable[Kind]) -> str:
    """Which examples are missing to fit the threshold of "none of these" to these ones, in words for the user."""
    counts = Counter(kinds)
    wanted = (
        (FEWEST_OF_NONE - counts["none"], "'none of these'"),
        (FEWEST_OF_NONE - counts["class"], "classes"),
    )
    return " and ".join(f"{counted(missing, 'clip')} of {what}" for missing, what in wanted if missing > 0)


def chosen(head: Head) -> Head:
    """The head with the share and the probe that its examples call for."""
    return replace(head, share=chosen_share(head), probe=chosen_probe(head))


def chosen_probe(head: Head) -> float:
    """The weight of logistic regression, beside the Gaussian classes, in what tells the taught classes apart.

    The one with which held-out examples whose class has others are most probable among the taught classes (8 turns,
    each weight with the factor before the softmax that suits it best). The smallest where no class has two, and 0
    where there is nothing to tell apart or the model was tuned on the examples.
    """
    own = head.among_taught
    numbers = {comparable(name): row for row, name in enumerate(own.classes)}
    labels = np.array([numbers[comparable(example.label)] for example in own.examples.items], np.int64)
    if len(own.classes) < 2 or head.unseen:
        return 0.0
    several = np.bincount(labels)[labels] > 1
    if not several.any():
        return _PROBES[0]
    turn = np.arange(len(labels)) % _CLASS_TURNS
    parts = np.zeros((2, len(labels), len(own.classes)))
    for number in range(min(_CLASS_TURNS, len(labels))):
        out = turn == number
        rest = own.without(out)
        parts[:, out] = [
            rows.scores(own.examples.features[out]) for rows in rest.two_ways(own.classes, own.texts)
        ]
    found = [
        _losses(
            head.scale_before, ((1 - weight) * parts[0] + weight * parts[1])[several], labels[several]
        ).min()
        for weight in _PROBES
    ]
    return _PROBES[int(np.argmin(found))]


def chosen_share(head: Head) -> float:
    """The share of the rule in the scores, up to 1, with which held-out examples are named best, others not harmed.

    It is 0.4 divided by the number of taught classes, and for more than five of them less in proportion, which costs
    the others little whatever the examples are (on training clips of three datasets), or what the examples show to be
    safe.

    Two questions are asked of the examples. What is gained: each whose class has others is held out (16 turns). What
    the classes without examples lose: all examples of a class are held out (8 turns), so that it is known by its text
    alone among classes that are taught. The share rises as long as the latter keep their probability (`_keeps`);
    up to there, the one with the best accuracy on the former is taken, the largest of equals. One clip of each class
    says little of what others lose: then it is 0.2 at most. One taught class alone can't be asked the second question.
    Where all classes are taught, there is nothing to lose. Clips that the model was tuned on answer neither: the share
    is 1.
    """
    shown = replace(
        head, examples=head.examples.keep(e.kind == "class" for e in head.examples.items), share=1.0
    )
    numbers = {comparable(name): row for row, name in enumerate(head.classes)}
    labels = np.array([numbers[comparable(example.label)] for example in shown.examples.items], np.int64)
    taught, place = np.unique(labels, return_inverse=True)
    if not len(taught) or head.unseen:
        return 1.0
    least = _SAFE / len(taught) * min(1, _FEW / len(taught))
    if len(taught) == 1:
        return least if len(head.classes) > 1 else 1.0
    plain = (shown.examples.features @ head.texts.T).astype(np.float64)
    alone = _scores_without(shown, np.arange(len(labels)) % _TURNS)
    strange = _scores_without(shown, place % min(_CLASS_TURNS, len(taught)))
    several = np.bincount(labels)[labels] > 1
    misses = misses_of(softmax(_SHARPER * head.scale_before * plain), labels)
    most = _MOST_OF_ONE_CLIP if len(labels) == len(taught) else 1.0
    best, chosen = -1.0, least
    for share in (least, *_SHARES[least < _SHARES]):
        scores = _SHARPER * head.scale_before * (share * strange + (1 - share) * plain)
        gained = misses - misses_of(softmax(scores), labels)
        if len(taught) < len(head.classes) and not (share <= most and _keeps(gained, place, share)):
            break
        right = float(((share * alone + (1 - share) * plain).argmax(axis=1) == labels)[several].sum())
        if right >= best:
            best, chosen = right, float(share)
    return chosen


def _keeps(gained: np.ndarray, classes: np.ndarray, share: float) -> bool:
    """Whether classes that are known by their text alone are named as well with a share of the rule as without.

    gained: (N,), by how much the share makes the class of each example more probable. Less a tenth of a clip times the
    share, for what few do not show, the mean must be above its standard error over classes, of which half is enough
    for up to five taught classes, and all counts from ten on. classes: (N,).
    """
    means = np.bincount(classes, gained) / np.bincount(classes)
    error = means.std(ddof=1) / np.sqrt(len(means)) * np.clip(len(means) / (2 * _FEW), 0.5, 1)
    return bool(gained.sum() - share / 10 >= len(gained) * error)


def _scores_without(head: Head, turn: np.ndarray) -> np.ndarray:
    """Scores float64 (N, C) of the examples by what those of other turns teach. turn: int (N,)."""
    scores = np.zeros((len(turn), len(head.classes)))
    for number in np.unique(turn):
        out = turn == number
        rest = head.without(out)
        scores[out] = rest.rows(head.classes, head.texts).scores(head.examples.features[out])
    return scores


def fitted_scale(head: Head, held: HeldOut) -> float:
    """The factor on scores before a softmax, so that held-out examples are as probable as they can be.

    A factor that differs from `scale_before` by 2^±1 needs half a nat of evidence in all examples together, by 2^±2
    two nats; where nothing can be held out, it stays.
    """
    losses = np.log2(_SCALES) ** 2 / 2 + _losses(head.scale_before, held.scores, held.labels)
    return float(head.scale_before * _SCALES[losses.argmin()])


def _losses(scale: float, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How improbable the examples are with each of `_SCALES` times `scale`: the sum of their negative log likelihoods.

    scores: (N, C). labels: (N,).
    """
    losses, rows = np.zeros(len(_SCALES)), np.arange(len(labels))
    for place, factor in enumerate(_SCALES):
        logits = scale * factor * scores
        top = logits.max(axis=1, initial=-np.inf, keepdims=True)
        likely = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        losses[place] = -likely[rows, labels].sum()
    return losses


def _fit_calibration(head: Head, held: HeldOut, scale: float) -> CalibrationCard | None:
    labels = held.labels
    if len(labels) < FEWEST or len(head.classes) < 2:
        return None
    logits = scale * held.scores
    likely = softmax(logits)
    misses = misses_of(likely, labels)
    sigmoid = fit_sigmoid(logits, labels)
    if sigmoid is None:
        return None
    slope, offset = sigmoid
    alone = 1 / (1 + np.exp(-np.clip(slope * logits + offset, -700, 700)))
    enough = [row for row in np.unique(labels).tolist() if (labels == row).sum() >= FEWEST_OF_CLASS]
    ece_before, brier_before = errors_of(softmax(head.scale_before * held.scores), labels)
    ece, brier = errors_of(likely, labels)
    sets = Sets.of(likely, labels, misses)
    group = GroupCalibration(
        temperature=1.0,
        slope=slope,
        offset=offset,
        misses=rounded(misses),
        accuracy=float((likely.argmax(axis=1) == labels).mean()),
        ece_before=ece_before,
        ece=ece,
        brier_before=brier_before,
        brier=brier,
        covered=float(sets.covered.mean()),
        set_size=float(sets.sizes.mean()),
    )
    return CalibrationCard(
        fitted_on=f"{counted(len(labels), 'example')}, held out in turns",
        clips=len(labels),
        tuned=group,
        new=None,
        reach=1.0,
        thresholds={head.classes[row]: best_f1_cut(alone[:, row], labels == row) for row in enough},
        usual_threshold=usual_cut(alone, labels),
    )


def _fit_threshold(head: Head, held: HeldOut, negatives: np.ndarray) -> RejectCard | None:
    source = f"{counted(len(held.margins), 'example')} of classes"
    if len(held.none) >= FEWEST_OF_NONE and len(held.margins) >= FEWEST_OF_NONE:
        threshold = best_cut(held.margins, held.none)
        rejected = float((held.none < threshold).mean())
        source += f" and {len(held.none)} of none of them"
    elif head.threshold_before is not None and not len(held.none) and len(held.margins) >= FEWEST:
        threshold, rejected = float(np.quantile(held.margins, 1 - _kept_before(head, held, negatives))), None
    else:
        return None
    return RejectCard(
        threshold=threshold,
        fitted_on=f"{source}, held out in turns",
        kept=float((held.margins >= threshold).mean()),
        rejected=rejected,
    )


def _kept_before(head: Head, held: HeldOut, negatives: np.ndarray) -> float:
    """The share of the examples that the threshold kept before anything was taught.

    Those of the model's own classes count, as names of new ones may mean nothing to it; where they are fewer than 20,
    95 % are to be kept, as `export` does without clips that show nothing.
    """
    shown = np.array([example.kind == "class" for example in head.examples.items], bool)
    own = head.examples.features[shown][held.labels < head.own]
    if len(own) < FEWEST:
        return KEPT
    kept = rejection_margin(own, head.texts[: head.own], negatives) >= head.threshold_before
    return float(kept.mean())
