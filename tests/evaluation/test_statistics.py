"""Intervals and p-values against tables of others, hand-worked ones, and simulation."""

import math

import numpy as np
import pytest

from ga2clip.evaluation import statistics
from ga2clip.evaluation.statistics import (
    Interval,
    clip_variance,
    difference_interval,
    harmonic_mean_interval,
    harmonic_mean_variance,
    mcnemar,
    mean_interval,
    paired_t,
    wilson,
)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [  # Newcombe (Statistics in Medicine 1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_that_of_newcombes_table(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == pytest.approx((low, high), abs=6e-5)


def test_nothing_tested_has_no_interval() -> None:
    assert math.isnan(wilson(0, 0).low)
    assert math.isnan(harmonic_mean_interval([(0, 0), (3, 4)]).low)
    assert math.isnan(mean_interval([0.5]).low)


def test_harmonic_mean_of_many_clips_has_the_width_of_the_delta_method() -> None:
    """dHM/db = 2n² / (b + n)², and the same for n."""
    b, n, clips = 0.8, 0.6, 5000
    slopes = [2 * n**2 / (b + n) ** 2, 2 * b**2 / (b + n) ** 2]
    deviation = math.sqrt(sum(g**2 * p * (1 - p) / clips for g, p in zip(slopes, (b, n), strict=True)))
    low, high = harmonic_mean_interval([(4000, clips), (3000, clips)])
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.03)
    assert (high + low) / 2 == pytest.approx(2 * b * n / (b + n), abs=1e-3)
    variances = [p * (1 - p) / clips for p in (b, n)]
    assert harmonic_mean_variance([b, n], variances) == pytest.approx(deviation**2)


def test_a_harmonic_mean_at_its_ends_lies_in_its_interval() -> None:
    assert harmonic_mean_interval([(10, 10), (10, 10)]).high == 1.0
    assert harmonic_mean_interval([(0, 10), (7, 10)]).low == 0.0


def test_seeds_alone_give_students_interval() -> None:
    """Five values, t(0.975, 4) = 2.776: mean 0.52, deviation 0.0158114, so ± 0.019632."""
    assert mean_interval([0.50, 0.51, 0.52, 0.53, 0.54]) == pytest.approx((0.500368, 0.539632), abs=2e-6)
    assert math.isnan(mean_interval([0.5, 0.5]).low)


def test_clip_variance_is_that_of_a_hand_worked_table() -> None:
    """Two runs, four clips: mean squares of clips 5/12 and of the rest 1/12, so (5/12 − 1/12) / (2 · 4)."""
    hits = [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert clip_variance(hits) == pytest.approx((5 / 12 - 1 / 12) / 8)
    assert clip_variance([[1, 0, 0, 0]]) == pytest.approx(0.25 / 4)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Clips of different difficulty, seeds of different luck: both are drawn anew in each experiment."""
    rng, truth, held, narrow = np.random.default_rng(1), 0.6, 0, 0
    for _ in range(400):
        chances = truth + rng.uniform(-0.35, 0.35, 150) + rng.normal(0, 0.02, (5, 1))
        hits = rng.random((5, 150)) < chances
        values = list(hits.mean(axis=1))
        low, high = mean_interval(values, clip_variance(hits))
        held += low <= truth <= high
        low, high = mean_interval(values)
        narrow += low <= truth <= high
    assert 0.92 < held / 400 < 0.99
    assert narrow <= held


def test_mcnemar_is_the_binomial_test_of_what_they_answer_differently() -> None:
    """10 clips only ours, 2 only theirs: 2 · (1 + 12 + 66) / 2^12."""
    ours = [True] * 30 + [True] * 10 + [False] * 2 + [False] * 5
    theirs = [True] * 30 + [False] * 10 + [True] * 2 + [False] * 5
    assert mcnemar(ours, theirs) == pytest.approx(2 * 79 / 4096)
    assert mcnemar(theirs, ours) == mcnemar(ours, theirs)
    assert mcnemar(ours, ours) == 1.0


def test_paired_t_is_that_of_students_sleep_data() -> None:
    """Student (Biometrika 1908): t = 4.0621 on 9 degrees of freedom, p = 0.002833."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert paired_t(second, first) == pytest.approx(0.002833, abs=1e-6)
    assert difference_interval(second, first) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_a_difference_that_cannot_be_judged_has_no_p_value() -> None:
    assert math.isnan(paired_t([0.5], [0.6]))
    assert math.isnan(paired_t([0.5, 0.6], [0.4, 0.5]))
    assert math.isnan(difference_interval([0.5, 0.6], [0.4, 0.5]).low)
    assert paired_t([0.5, 0.6], [0.5, 0.6]) == 1.0


def test_how_numbers_are_shown() -> None:
    assert statistics.percent(0.5, Interval(0.431, 0.569)) == "50.0 [43.1, 56.9]"
    assert statistics.percent(0.5) == "50.0"
    assert statistics.percent(math.nan) == "–"
    assert [statistics.p_value(p) for p in (0.0432, 1e-5, math.nan, 1.0)] == [
        "0.043",
        "< 0.001",
        "–",
        "1.000",
    ]
