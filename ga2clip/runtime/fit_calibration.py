"""Arithmetic that fits probabilities to scores of clips whose classes are known: what export and teaching share."""

from dataclasses import dataclass

import numpy as np

from ga2clip.runtime.calibration import quantile
from ga2clip.runtime.calibration_card import SLOPES
from ga2clip.runtime.reliability import brier_score, expected_calibration_error

COVERAGE = 0.9
"""Of the sets whose measured coverage and size a card states."""
FEWEST_OF_CLASS = 5
"""Clips, to fit the threshold of a class on."""
KEPT = 0.95
"""Share of class clips that an open-set threshold keeps where there are no clips that show no class."""
_STEPS = 100


@dataclass(frozen=True)
class Sets:
    """Whether sets of 90 % coverage hold the truth, bool (N,), and how many classes are in them, int (N,)."""

    covered: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray, misses: np.ndarray) -> "Sets":
        """Of probabilities (N, C), with the quantile of the `misses` of other clips; the best class is always in."""
        lowest = 1 - quantile(misses, COVERAGE)
        inside = (probabilities >= lowest) | (probabilities >= probabilities.max(axis=1, keepdims=True))
        return cls(np.take_along_axis(inside, labels[:, None], axis=1)[:, 0], inside.sum(axis=1))


def misses_of(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 minus the probability of the true class, (N,)."""
    return np.clip(1 - np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0], 0, 1)


def rounded(misses: np.ndarray) -> tuple[float, ...]:
    """Misses as a card holds them: in rising order, six digits."""
    return tuple(round(float(miss), 6) for miss in sorted(misses))


def errors_of(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The expected calibration error and the mean Brier score of probabilities (N, C)."""
    right = probabilities.argmax(axis=1) == labels
    ece = expected_calibration_error(probabilities.max(axis=1), right)
    return ece, float(brier_score(probabilities, labels).mean())


def best_f1_cut(scores: np.ndarray, positive: np.ndarray) -> float:
    """The threshold on scores (N,) with the largest F1 = 2TP/(2TP + FP + FN), halfway between two neighbouring scores.

    Source: Lipton, Elkan & Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML 2014.
    """
    values = np.unique(scores)
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2])
    order = np.argsort(scores, kind="stable")
    below = np.searchsorted(scores[order], cuts)
    hits = positive.sum() - np.concatenate([[0], np.cumsum(positive[order])])[below]
    return float(cuts[np.argmax(2 * hits / (len(scores) - below + positive.sum()))])


def usual_cut(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the largest F1 over all clips and classes together; scores (N, C), labels (N,)."""
    return best_f1_cut(scores.ravel(), _shows(scores, labels).ravel())


def best_cut(above: np.ndarray, below: np.ndarray) -> float:
    """The cut that maximises P(above ≥ cut) + P(below < cut), halfway between two neighbouring values.

    Source: Youden's index (Cancer, 1950).
    """
    values = np.unique(np.concatenate([above, below]))
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2])
    lost, refused = (np.searchsorted(np.sort(part), cuts) / len(part) for part in (above, below))
    return float(cuts[int(np.argmax(refused - lost))])


def fit_sigmoid(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float] | None:
    """Slope and offset of the sigmoid that says best, for every clip and class alike, whether the clip shows the class.

    logits: (N, C). labels: (N,). None: the logits of the classes that are shown are no higher than the others.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with his targets that are not quite 0
    and 1, so that there is always a solution; found by Newton's method with halved steps (Lin, Lin & Weng, 2007).
    """
    shows = _shows(logits, labels)
    positives, negatives = int(shows.sum()), int((~shows).sum())
    targets = np.where(shows.ravel(), (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = float(logits.std()) or 1.0
    values = np.stack([logits.ravel() / spread, np.ones(logits.size)])

    def loss(at: np.ndarray) -> float:
        scores = at @ values
        return float((np.logaddexp(0, scores) - targets * scores).mean())

    at = np.array([1.0, 0.0])
    lowest = loss(at)
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(at @ values, -700, 700)))
        slopes = values @ (likely - targets) / logits.size
        bends = (values * (likely * (1 - likely))) @ values.T / logits.size + 1e-12 * np.eye(2)
        step = np.linalg.solve(bends, slopes)
        length = next((2.0**-n for n in range(30) if loss(at - 2.0**-n * step) < lowest), None)
        if length is None:
            break
        at = at - length * step
        lowest = loss(at)
    slope, offset = float(at[0] / spread), float(at[1])
    return (slope, offset) if SLOPES[0] <= slope <= SLOPES[1] else None


def _shows(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each clip shows each class, bool (N, C)."""
    return np.arange(scores.shape[1]) == labels[:, None]
