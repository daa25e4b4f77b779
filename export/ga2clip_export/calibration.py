"""Fits what makes probabilities of scores, for tuned and for new names: temperatures, independent scores and sets.

Temperatures minimise the Brier score. The usual fit, by likelihood, is decided by the few clips on which a video CLIP
is sure and wrong, and makes all other answers too unsure.

New names can't be seen before they are asked for, and clips of novel classes are test clips. So the tuned classes are
taken as if they were new: their clips, encoded by the tuned model, are scored against class texts of the untuned text
tower. What tuning did to the texts of these classes, and not to others, is thereby left out.

Sources: `ga2clip.runtime.calibration`; the Brier score is a proper score (Gneiting & Raftery, JASA 2007).
"""

import logging
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from ga2clip.runtime.card import CalibrationCard, GroupCalibration
from ga2clip.runtime.fit_calibration import (
    FEWEST,
    FEWEST_OF_CLASS,
    Sets,
    best_f1_cut,
    errors_of,
    fit_sigmoid,
    misses_of,
    rounded,
    softmax,
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
        scale: factor on cosines.
        classes: the names.
        source: what the clips are, for the card.

    Returns:
        None where clips or classes are too few: fewer than 20 clips or 2 classes.
    """
    if len(labels) < FEWEST or len(bank) < 2:
        _log.warning(
            "probabilities are not calibrated: that needs %d clips of the training part and 2 classes",
            FEWEST,
        )
        return None
    unit = normalise(video).astype(np.float64)
    own = scale * unit @ normalise(bank).T
    tuned = _fit_group(own, labels)
    new = None
    if untuned is None:
        _log.warning(
            "the model has no untuned text tower: probabilities of new names are as those of tuned ones"
        )
    else:
        new = _fit_group(scale * unit @ normalise(untuned).T, labels)
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
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, 1/20 … 20, whose softmax has the smallest Brier score; logits (N, C), labels (N,)."""

    def score(logarithm: float) -> float:
        return float(brier_score(softmax(logits / np.exp(logarithm)), labels).mean())

    return float(np.exp(minimize_scalar(score, bounds=_RANGE, method="bounded").x))


def _fit_group(logits: np.ndarray, labels: np.ndarray) -> GroupCalibration:
    held = np.empty_like(logits)
    covered, sizes = [], []
    folds = _folds(labels)
    for fold in range(_FOLDS):
        out = folds == fold
        temperature = fit_temperature(logits[~out], labels[~out])
        held[out] = softmax(logits[out] / temperature)
        sets = Sets.of(held[out], labels[out], misses_of(softmax(logits[~out] / temperature), labels[~out]))
        covered += sets.covered.tolist()
        sizes += sets.sizes.tolist()
    (ece_before, brier_before), (ece, brier) = errors_of(softmax(logits), labels), errors_of(held, labels)
    temperature = fit_temperature(logits, labels)
    slope, offset = fit_sigmoid(logits, labels)
    return GroupCalibration(
        temperature=temperature,
        slope=slope,
        offset=offset,
        misses=rounded(misses_of(softmax(logits / temperature), labels)),
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
