"""Whether probabilities mean what they say: expected calibration error, Brier score and the reliability plot.

Everything is about one test set: probabilities (N, C) and the true classes (N,). Clips that could not be read have no
probabilities and are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ga2clip.evaluation.statistics import LEVEL, UNKNOWN, Interval
from ga2clip.files import write_figure
from ga2clip.runtime.reliability import BINS, bins_of, brier_score, expected_calibration_error

_DRAWS = 1000


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in one of the bins: how many, their mean confidence, the share that is right."""

    count: int
    confidence: float
    accuracy: float


def filled_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[Bin]:
    """The bins that hold an answer, in rising order; arguments as `expected_calibration_error`."""
    places = bins_of(confidence)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(correct[inside].mean()))
        for inside in (places == number for number in np.unique(places))
    ]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy on one test set.

    Attributes:
        confidence: (N,) probability of the best class.
        correct: (N,) whether it is the true one.
        briers: (N,) Brier score of each clip.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    briers: NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> "Reliability":
        """From probabilities (N, C) and true classes (N,)."""
        rows = probabilities.astype(np.float64)
        best = rows.argmax(axis=1)
        return cls(rows.max(axis=1, initial=0.0), best == labels, brier_score(rows, labels))

    @cached_property
    def ece(self) -> float:
        """The expected calibration error, a fraction; NaN without clips."""
        return expected_calibration_error(self.confidence, self.correct)

    @property
    def brier(self) -> float:
        """The mean Brier score, 0…2; NaN without clips."""
        return float(self.briers.mean()) if len(self.briers) else float("nan")

    @cached_property
    def intervals(self) -> tuple[Interval, Interval]:
        """Of the calibration error and the Brier score, over the clips that might have been tested.

        Source: percentile bootstrap of clips with a fixed seed (Efron & Tibshirani, 1993, chapter 13). A resampled
        calibration error is larger by its noise, so the lower bound may be above the error itself; then the error is
        the bound.
        """
        n = len(self.confidence)
        if not n:
            return UNKNOWN, UNKNOWN
        drawn = np.random.default_rng(0).integers(n, size=(_DRAWS, n))
        errors = [expected_calibration_error(self.confidence[rows], self.correct[rows]) for rows in drawn]
        return _percentiles(np.array(errors), self.ece), _percentiles(
            self.briers[drawn].mean(axis=1), self.brier
        )


def _percentiles(values: NDArray[np.float64], measured: float) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(min(float(low), measured), max(float(high), measured))


def draw_reliability(sets: Mapping[str, Mapping[str, Reliability]], path: Path) -> None:
    """Draw accuracy against confidence, one square per test set with a line per curve; below it, how many clips.

    Args:
        sets: name of the test set → name of the curve (such as `before` and `after`) → what was measured.
        path: the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(sets), 5.2), layout="constrained")
    rows = figure.subplots(2, len(sets), squeeze=False, sharex=True, height_ratios=(4, 1))
    for column, (name, curves) in enumerate(sets.items()):
        top, bottom = rows[0][column], rows[1][column]
        top.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
        for label, found in curves.items():
            bins = filled_bins(found.confidence, found.correct)
            means = [b.confidence for b in bins], [b.accuracy for b in bins]
            said = f"{label}: " if label else ""
            legend = f"{said}ECE {100 * found.ece:.1f} %, Brier {found.brier:.3f}"
            (line,) = top.plot(*means, marker="o", markersize=4, label=legend)
            edges = np.linspace(0, 1, BINS + 1)
            counts = np.bincount(bins_of(found.confidence), minlength=BINS)
            bottom.stairs(counts, edges, color=line.get_color())
        top.set(title=name, ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        top.legend(loc="lower right", fontsize=8)
        bottom.set(xlabel="confidence", ylabel="clips")
    write_figure(path, figure)
