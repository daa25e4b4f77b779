import math
from itertools import pairwise

from ga2clip.training.schedule import lr_factor


def test_rises_linearly_then_falls_as_a_cosine() -> None:
    factors = [lr_factor(step, 100, 10) for step in range(100)]
    rises = [b - a for a, b in pairwise(factors[:11])]
    assert all(math.isclose(rise, rises[0]) for rise in rises)
    assert factors[10] == 1.0
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert math.isclose(factors[55], 0.5)


def test_no_update_is_wasted() -> None:
    for total, warmup in [(1, 0), (5, 5), (3, 10), (100, 10)]:
        assert all(0 < lr_factor(step, total, warmup) <= 1 for step in range(total))
