"""The learning rate over a training, against hand-worked tables of the schedulers that the methods' authors call."""

import math
from itertools import pairwise

import pytest

from ga2clip.training.schedule import Rate


def test_rises_linearly_then_falls_as_a_cosine() -> None:
    factors = [Rate(100, 10).factor(step) for step in range(100)]
    rises = [b - a for a, b in pairwise(factors[:11])]
    assert all(math.isclose(rise, rises[0]) for rise in rises)
    assert factors[10] == 1.0
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert math.isclose(factors[55], 0.5)


def test_no_update_is_wasted() -> None:
    for total, warmup in [(1, 0), (5, 5), (3, 10), (100, 10)]:
        assert all(0 < Rate(total, warmup).factor(step) <= 1 for step in range(total))


def test_the_floor_is_where_the_cosine_ends() -> None:
    rate = Rate(100, 0, floor=0.25)
    assert rate.factor(0) == 1.0
    assert rate.factor(50) == pytest.approx(0.625)
    assert 0.25 < rate.factor(99) < 0.251


def test_dassl_falls_per_epoch_and_never_to_the_end() -> None:
    """MaPLe: 5 epochs, one of constant warm-up at 1e-5 of 3.5e-3; cosines of 0, 36, 72 and 108 degrees behind it."""
    rate = Rate(total=50, warmup=10, per_epoch=10, warmup_factor=1e-5 / 3.5e-3, kind="dassl")
    expected = [1e-5 / 3.5e-3, 1.0, 0.9045, 0.6545, 0.3455]
    for step in range(50):
        assert rate.factor(step) == pytest.approx(expected[step // 10], abs=5e-5)


def test_timm_takes_the_cosine_of_the_whole_training() -> None:
    """ViFi-CLIP: 11 epochs, 5 of warm-up, floor 1 %: behind warm-up the cosine is where 5 of 11 epochs brought it."""
    rate = Rate(total=110, warmup=50, per_epoch=10, floor=0.01, kind="timm")
    assert rate.factor(49) == pytest.approx(50 / 51)
    for step in (50, 80, 109):
        assert rate.factor(step) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / 110)))
    assert rate.factor(50) == pytest.approx(0.5755, abs=5e-4)
