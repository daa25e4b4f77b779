"""Fits what makes probabilities of scores, for tuned and for new names: temperatures, independent scores and sets.

Temperatures, and the offset with which negative prompts take part, minimise the Brier score. The usual fit, by
likelihood, is decided by the few clips on which a video CLIP is sure and wrong, and makes all other answers too unsure.

New names can't be seen before they are asked for, and clips of novel classes are test clips. So the tuned classes are
taken as if they were new: their clips, encoded by the tuned model, are scored against class texts of the untuned text
tower. What tuning did to the texts of these classes, and not to others, is thereby left out.

Sources: `ga2clip.runtime.calibration`; the Brier score is a proper score (Gneiting & Raftery, JASA 2007).
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from ga2clip.runtime.calibration import softmax, softmax_with_negatives
from ga2clip.runtime.calibration_card import FEWEST, CalibrationCard, GroupCalibration
from ga2clip.runtime.fit_calibration import (
    FEWEST_OF_CLASS,
    Sets,
    best_f1_cut,
    errors_of,
    fit_sigmoid,
    misses_of,
    rounded,
    usual_cut,
)
from ga2clip.runtime.reliability import brier_score
from ga2clip.runtime.scoring import normalise

_log = logging.getLogger(__name__)

_FOLDS = 5
_RANGE = (np.log(1 / 20), np.log(20))  # of the logarithm of a temperature


def fit_calibration(
    video: np.ndarray,
    labels: np.ndarray,
    bank: np.ndarray,
    untuned: np.ndarray | None,
    negatives: np.ndarray,
    *,
    scale: float,
    classes: Sequence[str],
    source: str,
) -> CalibrationCard | None:
    """The calibration of a model.

    Args:
        video: float32 (N, D) features of clips of its training part.
        labels: int64 (N,) their classes.
        bank: float32 (C, D) features of the classes.
        untuned: float32 (C, D) features of the same classes from the text tower as it was before tuning; None:
            not known.
        negatives: float32 (K, D) features of the negative prompts; without any, K = 0, none take part.
        scale: factor on cosines.
        classes: the names.
        source: what the clips are, for the card.

    Returns:
        None where clips or classes are too few (fewer than 20 clips or 2 classes), or scores no better than chance.
    """
    if len(labels) < FEWEST or len(bank) < 2:
        _log.warning(
            "probabilities are not calibrated: that needs %d clips of the training part and 2 classes",
            FEWEST,
        )
        return None
    unit = normalise(video).astype(np.float64)
    own = scale * unit @ normalise(bank).T
    against = scale * unit @ normalise(negatives).T
    tuned = _fit_group(own, against, labels)
    if tuned is None:
        _log.warning("probabilities are not calibrated: the model does not tell the run's own classes apart")
        return None
    new = None
    if untuned is None:
        _log.warning(
            "the model has no untuned text tower: probabilities of new names are as those of tuned ones"
        )
    else:
        new = _fit_group(scale * unit @ normalise(untuned).T, against, labels)
        if new is None:
            _log.warning(
                "untuned, the model does not tell the classes apart: new names are treated as tuned ones"
            )
    scores = _sigmoid(tuned.slope * own + tuned.offset)
    enough = [index for index in range(len(bank)) if (labels == index).sum() >= FEWEST_OF_CLASS]
    return CalibrationCard(
        fitted_on=source,
        clips=len(labels),
        tuned=tuned,
        new=new,
        reach=_reach(normalise(bank).astype(np.float64)),
        thresholds={classes[index]: best_f1_cut(scores[:, index], labels == index) for index in enough},
        usual_threshold=usual_cut(scores, labels),
        misses_with_negatives=False,
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, 1/20 … 20, whose softmax has the smallest Brier score; logits (N, C), labels (N,)."""

    def score(logarithm: float) -> float:
        return float(brier_score(softmax(logits / np.exp(logarithm)), labels).mean())

    return float(np.exp(minimize_scalar(score, bounds=_RANGE, method="bounded").x))


class Softmax(NamedTuple):
    """A temperature, and what is added to the logits of negative prompts, which take no part where it is None."""

    temperature: float
    negative_offset: float | None

    def probabilities(self, logits: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        """Of logits (N, C), with those of the negative prompts (N, K)."""
        if self.negative_offset is None:
            return softmax(logits / self.temperature)
        against = negatives + self.negative_offset
        return softmax_with_negatives(logits / self.temperature, against / self.temperature)


def fit_softmax(logits: np.ndarray, negatives: np.ndarray, labels: np.ndarray) -> Softmax:
    """The smallest Brier score with negative prompts; logits (N, C), those of the negatives (N, K), labels (N,)."""
    alone = Softmax(fit_temperature(logits, labels), None)
    if not negatives.shape[1]:
        return alone
    widest = 2 * float(max(np.abs(logits).max(), np.abs(negatives).max()))

    def score(at: np.ndarray) -> float:
        found = Softmax(np.exp(at[0]), at[1]).probabilities(logits, negatives)
        return float(brier_score(found, labels).mean())

    # One of the corners is nearly the temperature alone, so that the result is not worse than that.
    log = np.log(alone.temperature)
    found = minimize(
        score,
        np.array([log, 0.0]),
        method="Nelder-Mead",
        bounds=[_RANGE, (-widest, widest)],
        options={
            "maxiter": 400,
            "xatol": 1e-4,
            "fatol": 1e-8,
            "initial_simplex": [[log, -widest], [log, 0.0], [log - np.sign(log or 1) / 2, 0.0]],
        },
    )
    return Softmax(float(np.exp(found.x[0])), float(found.x[1]))


def _fit_group(logits: np.ndarray, negatives: np.ndarray, labels: np.ndarray) -> GroupCalibration | None:
    """None: the model tells the classes no better apart than chance."""
    held = np.empty_like(logits)
    covered, sizes = [], []
    folds = _folds(labels)
    for fold in range(_FOLDS):
        out = folds == fold
        rule = fit_softmax(logits[~out], negatives[~out], labels[~out])
        held[out] = rule.probabilities(logits[out], negatives[out])
        alone = softmax(logits / rule.temperature)  # sets are made without negative prompts
        sets = Sets.of(alone[out], labels[out], misses_of(alone[~out], labels[~out]))
        covered += sets.covered.tolist()
        sizes += sets.sizes.tolist()
    (ece_before, brier_before), (ece, brier) = errors_of(softmax(logits), labels), errors_of(held, labels)
    rule = fit_softmax(logits, negatives, labels)
    sigmoid = fit_sigmoid(logits, labels)
    if sigmoid is None:
        return None
    slope, offset = sigmoid
    return GroupCalibration(
        **rule._asdict(),
        slope=slope,
        offset=offset,
        misses=rounded(misses_of(softmax(logits / rule.temperature), labels)),
        accuracy=float((held.argmax(axis=1) == labels).mean()),
        ece_before=ece_before,
        ece=ece,
        brier_before=brier_before,
        brier=brier,
        covered=float(np.mean(covered)),
        set_size=float(np.mean(sizes)),
    )


def _folds(labels: np.ndarray) -> np.ndarray:
    """The fold of each clip (N,): the clips of each class go through the folds in turns."""
    folds = np.empty(len(labels), np.int64)
    start = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        folds[rows] = (start + np.arange(len(rows))) % _FOLDS
        start += len(rows)
    return folds


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -700, 700))))


def _reach(bank: np.ndarray) -> float:
    """How far the tuned classes (C, D) are from their nearest neighbours among each other: the median 1 - cosine."""
    cosines = bank @ bank.T
    np.fill_diagonal(cosines, -np.inf)
    return float(max(np.median(1 - cosines.max(axis=1)), 0.01))
