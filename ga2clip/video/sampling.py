"""Sampling: which frames of a video with n frames make a clip, int64 (clips, frames).

Pure functions that open no file. Random choices come from a generator or seed that the caller passes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ga2clip.errors import UserError

Indices = npt.NDArray[np.int64]
_MOST = 100_000  # an hour of every frame; what is larger is a mistake


@dataclass(frozen=True)
class SamplingRule:
    """Which frames of a video make a clip.

    frames: T, frames per clip, one from each of T equal segments of the video. train: random positions instead of
    fixed ones. clips: clips (temporal views) per video. seed: of the random positions; None gives other ones each time.
    Raises UserError for values out of range.
    """

    frames: int
    train: bool = False
    clips: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "clips"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise UserError(f"sampling: {name} must be a whole number of at least 1, not {value!r:.40}")
            if value > _MOST:
                raise UserError(f"sampling: {name} must be at most {_MOST:,}, not {value}")


def sample_indices(n: int, rule: SamplingRule) -> Indices:
    """The frames that a rule selects from a video of n frames, int64 (rule.clips, rule.frames), in 0 … n-1."""
    rng = np.random.default_rng(rule.seed) if rule.train else None
    return np.stack(
        [
            segment_indices(n, rule.frames, rng=rng, position=(view + 0.5) / rule.clips)
            for view in range(rule.clips)
        ]
    )


def segment_indices(
    n: int, frames: int, *, rng: "np.random.Generator | None" = None, position: float = 0.5
) -> Indices:
    """One frame from each of `frames` equal segments of a video of n frames, int64 (frames,), in ascending order.

        n = 12, frames = 3      |. . . .|. . . .|. . . .|
        evaluation (centres)         2       6       10
        training, for example    0             7   8           one random frame in each segment
        n = 2,  frames = 5      0 0 1 1 1                      a short video repeats frames

    Without rng, the frame at `position` (0 … 1) of each segment is taken, by default its centre. Segments are those of
    temporal segment networks (Wang et al., ECCV 2016, section 3.1), with real-valued borders.
    """
    _need_frames(n)
    if rng is None:
        return np.floor((np.arange(frames) + position) * n / frames).astype(np.int64)
    borders = np.arange(frames + 1) * n // frames
    return rng.integers(borders[:-1], np.maximum(borders[1:], borders[:-1] + 1)).astype(np.int64)


def _need_frames(n: int) -> None:
    if n < 1:
        raise ValueError(f"a video of {n} frames has none to sample")
