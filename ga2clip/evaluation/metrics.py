"""Accuracies and the confusion matrix from class probabilities (N, C) and labels (N,), in NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP = 5
BROKEN = -1
"""The prediction of a clip that could not be read: wrong, and in no column of the confusion matrix."""


@dataclass(frozen=True)
class Scores:
    """Accuracies as fractions; nan where there is nothing to count.

    top1, top5: over clips; top5 counts the `min(5, C)` best. per_class: (C,) top-1 of each class's clips.
    counts: (C,) clips of each class. confusion: (C, C) int64, rows are labels, columns predictions.
    """

    n: int
    top1: float
    top5: float
    per_class: NDArray[np.float64]
    counts: NDArray[np.int64]
    confusion: NDArray[np.int64]

    @property
    def mean_class(self) -> float:
        """Mean over the classes that have clips: every class counts alike."""
        return float(np.nanmean(self.per_class)) if self.n else float("nan")


def rank_classes(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """(N, C) → the ids (N, min(5, C)) of the likeliest classes, best first; equal ones by their order."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP].astype(np.int64)


def score(ranked: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Scores:
    """Scores of ranked predictions.

    ranked: (N, K) class ids, best first; a row of `BROKEN` counts as wrong. labels: (N,) in 0…classes-1.
    """
    hits = ranked == labels[:, None]
    counts = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels[hits[:, 0]], minlength=classes)
    readable = ranked[:, 0] != BROKEN
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels[readable], ranked[readable, 0]), 1)
    with np.errstate(invalid="ignore"):
        per_class = correct / counts
    return Scores(
        n=len(labels),
        top1=float(hits[:, 0].mean()) if len(labels) else float("nan"),
        top5=float(hits.any(axis=1).mean()) if len(labels) else float("nan"),
        per_class=per_class,
        counts=counts,
        confusion=confusion,
    )


def harmonic_mean(values: Sequence[float]) -> float:
    """n / Σ 1/x; 0 if a value is 0. For base and novel accuracy this is the usual HM (Xian et al., CVPR 2017)."""
    if any(value == 0 for value in values):
        return 0.0
    return len(values) / sum(1 / value for value in values)
