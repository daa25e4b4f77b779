"""Sampling: which frames of a video of n frames make a clip, int64 (clips, frames).

Pure functions: no file is opened here. "Random" is always a generator or a seed that the caller gives.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ga2clip.errors import UserError, unknown_name

Indices = npt.NDArray[np.int64]
_MODES = ("segments", "dense")
_MOST = 100_000  # an hour of every frame; what is larger is a mistake


@dataclass(frozen=True)
class SamplingRule:
    """Which frames of a video make a clip.

    frames: T, frames per clip. mode: "segments" (spread over the whole video) or "dense" (a window of
    neighbours). train: random positions instead of fixed ones. stride: distance of neighbours, dense only.
    clips: clips (temporal views) per video. seed: of the random positions; None gives other ones each time.
    Raises UserError for values out of range.
    """

    frames: int
    mode: Literal["segments", "dense"] = "segments"
    train: bool = False
    stride: int = 1
    clips: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise unknown_name("sampling mode", self.mode, _MODES)
        for name in ("frames", "stride", "clips"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise UserError(f"sampling: {name} must be a whole number of at least 1, not {value!r:.40}")
            if value > _MOST:
                raise UserError(f"sampling: {name} must be at most {_MOST:,}, not {value}")


def sample_indices(n: int, rule: SamplingRule) -> Indices:
    """The frames that a rule takes from a video of n frames, int64 (rule.clips, rule.frames), in 0 … n-1."""
    rng = np.random.default_rng(rule.seed) if rule.train else None
    if rule.mode == "dense":
        return dense_indices(n, rule.frames, rule.stride, clips=rule.clips, rng=rng)
    return np.stack(
        [
            segment_indices(n, rule.frames, rng=rng, position=(view + 0.5) / rule.clips)
            for view in range(rule.clips)
        ]
    )


def segment_indices(
    n: int, frames: int, *, rng: np.random.Generator | None = None, position: float = 0.5
) -> Indices:
    """One frame from each of `frames` equal segments of a video of n frames, int64 (frames,), never decreasing.

        n = 12, frames = 3      |. . . .|. . . .|. . . .|
        evaluation (centres)         2       6       10
        training, for example    0             7   8           one random frame in each segment
        n = 2,  frames = 5      0 0 1 1 1                      a short video repeats frames

    rng None takes the frame at `position` (0 … 1) of each segment, by default its centre. Segments are those of
    temporal segment networks (Wang et al., ECCV 2016, section 3.1), with real-valued borders.
    """
    _need_frames(n)
    if rng is None:
        return np.floor((np.arange(frames) + position) * n / frames).astype(np.int64)
    borders = np.arange(frames + 1) * n // frames
    return rng.integers(borders[:-1], np.maximum(borders[1:], borders[:-1] + 1)).astype(np.int64)


def dense_indices(
    n: int, frames: int, stride: int, *, clips: int = 1, rng: np.random.Generator | None = None
) -> Indices:
    """Windows of `frames` frames, `stride` apart, in a video of n frames, int64 (clips, frames).

        n = 12, frames = 3, stride = 2     . . . . . . . . . . . .
        evaluation, 1 clip                       x   x   x              the middle of the video
        evaluation, 2 clips                x   x   x     x   x   x      first … last, evenly spread
        training                             x   x   x                  anywhere

    A video shorter than the window is covered from end to end, as by segment_indices.
    """
    _need_frames(n)
    room = n - ((frames - 1) * stride + 1)
    if room < 0:
        return np.tile(segment_indices(n, frames), (clips, 1))
    if rng is not None:
        starts = rng.integers(0, room + 1, size=clips)
    elif clips == 1:
        starts = np.array([room // 2])
    else:
        starts = np.linspace(0, room, clips).round()
    return starts.astype(np.int64)[:, None] + np.arange(frames) * stride


def _need_frames(n: int) -> None:
    if n < 1:
        raise ValueError(f"a video of {n} frames has none to sample")
