"""Frame features with their times go in, windows with the mean of their frames' features come out, one by
one.

    frames    . . . . . . . . . . . . .
    windows   |-------|
                  |-------|                 each starts one stride after the one before
                      |-------|

Every frame is looked at once, whatever the overlap: a window's sum is the one before, plus the frames that
came in, minus those that went out. Memory is that of the frames of one window.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ga2clip.errors import UserError

_ROUNDING = 1e-6  # seconds; time stamps and multiples of the stride are not exact

Features = Iterable[tuple[float, np.ndarray]]
"""Times in seconds, rising, each with a feature (D,)."""


@dataclass(frozen=True)
class Window:
    """Seconds from `start` to `end` (not included), and the mean feature float64 (D,) of the frames in
    between.
    """

    start: float
    end: float
    feature: np.ndarray


def check_window(window: float, stride: float, fps: float) -> None:
    """Errors: UserError for numbers that make no windows."""
    for name, value in (("window", window), ("stride", stride), ("fps", fps)):
        if not 0 < value < np.inf:
            raise UserError(f"{name} must be above 0, got {value:g}")
    if stride > window:
        raise UserError(
            f"stride {stride:g} s is longer than the window {window:g} s: pictures in between would be ignored",
            "make the window as long as the stride",
        )


def windows(features: Features, window: float, stride: float, last_frame: float) -> Iterator[Window]:
    """Windows of `window` seconds, `stride` seconds apart, from 0 to the end of the video.

    The last one may be shorter, so that every frame is in a window; a video shorter than a window is one
    window. Where no frame falls into a window (a still picture in a video of variable frame rate), the
    picture before still stands. last_frame: seconds that the last frame is shown.
    """
    inside: deque[tuple[float, np.ndarray]] = deque()
    total: np.ndarray | float = 0.0
    before: np.ndarray | None = None
    start, time = 0.0, 0.0
    number = 0
    for time, raw in features:
        feature = raw.astype(np.float64)
        while time + _ROUNDING >= start + window:
            yield Window(start, start + window, _mean(total, len(inside), before))
            number += 1
            start = number * stride  # not a running sum, which would drift
            while inside and inside[0][0] + _ROUNDING < start:
                before = inside.popleft()[1]
                total = total - before if inside else 0.0
        inside.append((time, feature))
        total = total + feature
    if inside:
        yield Window(start, min(start + window, time + last_frame), _mean(total, len(inside), before))


def _mean(total: "np.ndarray | float", count: int, before: np.ndarray | None) -> np.ndarray:
    if count:
        return np.asarray(total) / count
    assert before is not None  # time 0 is the first frame
    return before
