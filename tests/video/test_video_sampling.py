"""Which frames a rule takes."""

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.video import SamplingRule, sample_indices, segment_indices

COUNTS = [1, 2, 3, 7, 8, 9, 72, 300, 6000]


def test_examples_of_the_docstrings() -> None:
    assert segment_indices(12, 3).tolist() == [2, 6, 10]
    assert segment_indices(2, 5).tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("frames", [1, 4, 8, 32])
def test_segments_cover_the_video_evenly(n: int, frames: int) -> None:
    indices = segment_indices(n, frames)
    assert indices.dtype == np.int64
    assert indices.shape == (frames,)
    assert indices.min() >= 0
    assert indices.max() < n
    assert np.all(np.diff(indices) >= 0)
    if frames >= n:
        assert set(indices.tolist()) == set(range(n))  # a short video loses no frame
    else:
        assert len(set(indices.tolist())) == frames


@pytest.mark.parametrize("n", COUNTS)
def test_random_positions_stay_in_their_segments_and_reach_all_frames(n: int) -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([segment_indices(n, 4, rng=rng) for _ in range(400)])
    low = np.arange(4) * n // 4
    high = np.maximum(np.arange(1, 5) * n // 4, low + 1)
    assert np.all((draws >= low) & (draws < high))
    if n <= 72:
        assert set(draws.ravel().tolist()) == set(range(n)) or n < 4
    assert draws.max() < n


def test_seed_fixes_the_random_positions() -> None:
    first, again, other = (sample_indices(300, SamplingRule(8, train=True, seed=s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    unseeded = {tuple(sample_indices(300, SamplingRule(8, train=True))[0]) for _ in range(5)}
    assert len(unseeded) > 1


def test_seed_means_nothing_in_evaluation() -> None:
    np.testing.assert_array_equal(
        sample_indices(300, SamplingRule(8, seed=1)), sample_indices(300, SamplingRule(8, seed=2))
    )


def test_views_interleave() -> None:
    assert sample_indices(24, SamplingRule(2, clips=3)).tolist() == [[2, 14], [6, 18], [10, 22]]
    np.testing.assert_array_equal(sample_indices(24, SamplingRule(2))[0], segment_indices(24, 2))


@pytest.mark.parametrize("bad", [{"frames": 0}, {"frames": 8, "clips": -1}])
def test_rules_out_of_range(bad: dict[str, int]) -> None:
    with pytest.raises(UserError, match="of at least 1"):
        SamplingRule(**bad)


def test_no_frames() -> None:
    with pytest.raises(ValueError, match="0 frames"):
        sample_indices(0, SamplingRule(8))
