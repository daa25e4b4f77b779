"""How sure an accuracy is, and whether two methods differ: intervals and p-values, by SciPy.

An accuracy has two sources of chance: which clips were tested, and the seed that a run was tuned with (Bouthillier et
al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021). One run knows the first alone; several
seeds on the same clips know both. Everything here is in fractions, and every interval has `LEVEL`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
_DRAWS = 20_000


class Interval(NamedTuple):
    """Bounds of a confidence interval, as fractions; nan where nothing can be said."""

    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


def wilson(correct: int, n: int) -> Interval:
    """Interval of the accuracy of one run over the clips that might have been tested.

    Args:
        correct: clips answered rightly.
        n: clips tested; 0 gives nan.

    Source: score interval (Wilson, JASA 1927), which stays inside 0…1 and keeps its level for accuracies near 0 or
    1 and for few clips (Brown, Cai & DasGupta, "Interval Estimation for a Binomial Proportion", 2001).
    """
    if not n:
        return UNKNOWN
    found = stats.binomtest(correct, n).proportion_ci(LEVEL, method="wilson")
    return Interval(float(found.low), float(found.high))


def harmonic_mean_interval(halves: Sequence[tuple[int, int]]) -> Interval:
    """Interval of one run's harmonic mean over the clips that might have been tested.

    Args:
        halves: (correct, n) of each half, base and novel.

    Source: quantiles of the harmonic mean under independent Jeffreys posteriors Beta(correct + ½, n − correct + ½),
    by simulation with a fixed seed; at the ends the interval holds the harmonic mean itself, as Brown, Cai & DasGupta
    (2001) modify Jeffreys' interval.
    """
    if not all(n for _, n in halves):
        return UNKNOWN
    draws = np.random.default_rng(0)
    rates = [draws.beta(correct + 0.5, n - correct + 0.5, _DRAWS) for correct, n in halves]
    low, high = np.quantile(len(rates) / sum(1 / rate for rate in rates), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    reached = stats.hmean([correct / n for correct, n in halves])
    return Interval(min(float(low), float(reached)), max(float(high), float(reached)))


def clip_variance(hits: ArrayLike) -> float:
    """Variance of a mean accuracy that comes from the choice of the clips, whatever the seeds.

    Args:
        hits: (S, N) whether run s answered clip n rightly; the same clips in every row.

    Returns:
        σ²_clip / N, in squared fractions, at least 0; of one run the variance of its mean.

    Source: seeds × clips as a crossed random-effects model without replicates, components by equating mean squares
    (Searle, Casella & McCulloch, "Variance Components", 1992, section 4.3).
    """
    table = np.asarray(hits, dtype=np.float64)
    runs, clips = table.shape
    if clips < 2:
        return math.nan
    if runs == 1:
        return float(table.var(ddof=1) / clips)
    of_clips = table.mean(axis=0)
    rest = table - of_clips - table.mean(axis=1, keepdims=True) + table.mean()
    mean_square_clips = runs * of_clips.var(ddof=1)
    mean_square_rest = (rest**2).sum() / ((runs - 1) * (clips - 1))
    return float(max(0.0, mean_square_clips - mean_square_rest) / (runs * clips))


def harmonic_mean_variance(means: Sequence[float], variances: Sequence[float]) -> float:
    """Variance of the harmonic mean of base and novel accuracy, from those of both, by the delta method.

    The slope of 2bn / (b + n) in b is 2n² / (b + n)².
    """
    b, n = means
    if not b + n:
        return 0.0
    slopes = (2 * n**2 / (b + n) ** 2, 2 * b**2 / (b + n) ** 2)
    return sum(slope**2 * variance for slope, variance in zip(slopes, variances, strict=True))


def mean_interval(values: Sequence[float], clips: float = 0.0) -> Interval:
    """Interval of the mean over seeds, over other seeds and other clips.

    Args:
        values: the accuracy of each run; nan for fewer than two, and where no source of chance shows.
        clips: variance of the mean from the choice of clips, see `clip_variance`; 0 gives Student's t-interval over
            seeds alone, which holds for exactly these test clips.

    Source: variances of the two sources added. Degrees of freedom of the sum by Satterthwaite (1946), the part of
    the clips taken as known: there are far more clips than seeds.
    """
    if len(values) < 2:
        return UNKNOWN
    seeds = float(np.var(values, ddof=1)) / len(values)
    total = seeds + clips
    mean = float(np.mean(values))
    if not total > 0:
        return UNKNOWN
    freedom = (len(values) - 1) * (total / seeds) ** 2 if seeds > 0 else math.inf
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total)
    return Interval(max(0.0, mean - reach), min(1.0, mean + reach))


def difference_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Student's t-interval of the mean difference ours − theirs over the same seeds, on the same clips.

    nan for fewer than two seeds, and where all of them differ alike, which would pass for certainty.
    """
    differences = np.subtract(ours, theirs)
    if len(differences) < 2 or _alike(differences):
        return UNKNOWN
    reach = stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1) * stats.sem(differences)
    return Interval(float(differences.mean() - reach), float(differences.mean() + reach))


def _alike(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) < 1e-12)


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Two-sided p-value that two runs are equally accurate, from their answers on the same clips.

    Args:
        ours: (N,) whether each clip was answered rightly.
        theirs: the same of the other run, clip by clip.

    Source: exact test (McNemar 1947): of the clips that one run alone has right, half should be each's.
    """
    first, second = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    only_ours, only_theirs = int((first & ~second).sum()), int((second & ~first).sum())
    if not only_ours + only_theirs:
        return 1.0
    return float(stats.binomtest(only_ours, only_ours + only_theirs, 0.5).pvalue)


def paired_t(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p-value that two methods have the same mean, from runs with the same seeds (paired t-test).

    Equal values give 1. nan where it cannot be told: fewer than two seeds, or the same difference in all of them,
    which would pass for certainty.
    """
    differences: NDArray[np.float64] = np.subtract(ours, theirs)
    if len(differences) < 2:
        return math.nan
    if _alike(differences):
        return 1.0 if abs(differences[0]) < 1e-12 else math.nan
    return float(stats.ttest_rel(ours, theirs).pvalue)


def percent(value: float, interval: Interval | None = None) -> str:
    """`50.0`, or `50.0 [43.1, 56.9]` with an interval; `–` for what is unknown."""
    if math.isnan(value):
        return "–"
    if interval is None or math.isnan(interval.low):
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def p_value(p: float) -> str:
    """`0.043`, `< 0.001`, or `–` where it cannot be told."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
