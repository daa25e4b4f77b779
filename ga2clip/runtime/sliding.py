"""Sliding windows over the features of frames, one by one, each with the mean of the frames in it.

    frames    . . . . . . . . . . . . .
    windows   |-------|
                  |-------|                 each starts one stride after the one before
                      |-------|

A gap in the video ends the windows before it; those after it begin anew at its end.
Every frame is looked at once, whatever the overlap: a window's sum is the one before, plus the frames that
came in, minus those that went out. Memory is that of the frames of one window.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.arguments import above_zero
from ga2clip.video import Gap

_ROUNDING = 1e-6  # seconds; time stamps and multiples of the stride are not exact

Features = Iterable[tuple[float, np.ndarray] | Gap]
"""Times in seconds, rising, each with a feature (D,), and gaps between them."""


@dataclass(frozen=True)
class Window:
    """Seconds from `start` to `end` (not included), and the mean feature float64 (D,) of the frames in
    between.
    """

    start: float
    end: float
    feature: np.ndarray


def check_window(window: float, stride: float, fps: float) -> None:
    """Raises UserError for numbers that make no windows."""
    for name, value in (("window", window), ("stride", stride), ("fps", fps)):
        above_zero(name, value)
    if stride > window:
        raise UserError(
            f"stride {stride:g} s is longer than the window {window:g} s: frames in between would be ignored",
            "make the window as long as the stride",
        )


def windows(features: Features, window: float, stride: float, last_frame: float) -> Iterator[Window | Gap]:
    """Windows of `window` seconds, `stride` seconds apart, from 0 to the end of the video, and its gaps.

    The last one before the end or a gap may be shorter, so that every frame is in a window; a video shorter than
    a window is one window. Where no frame falls into a window (a still in a video of variable frame rate), the
    frame before still stands. last_frame: seconds that the last frame is shown.
    """
    part = _Part(0.0, window, stride)
    for item in features:
        if isinstance(item, Gap):
            yield from part.rest(item.start)
            yield item
            part = _Part(item.end, window, stride)
        else:
            yield from part.add(*item)
    yield from part.rest(part.time + last_frame)


class _Part:
    """The windows of a stretch without gaps that begins at `begin` seconds."""

    def __init__(self, begin: float, window: float, stride: float) -> None:
        self._begin, self._window, self._stride = begin, window, stride
        self._inside: deque[tuple[float, np.ndarray]] = deque()
        self._total: np.ndarray | float = 0.0
        self._before: np.ndarray | None = None
        self._start = self.time = begin
        self._number = 0

    def add(self, time: float, raw: np.ndarray) -> Iterator[Window]:
        """The windows that a frame at `time` shows to be complete."""
        self.time = time
        while time + _ROUNDING >= self._start + self._window:
            yield Window(self._start, self._start + self._window, self._mean())
            self._number += 1
            self._start = self._begin + self._number * self._stride  # not a running sum, which would drift
            self._forget()
        feature = raw.astype(np.float64)
        self._inside.append((time, feature))
        self._total = self._total + feature

    def rest(self, end: float) -> Iterator[Window]:
        """The last window, which ends at `end` at the latest, if a frame is in it."""
        if self._inside:
            yield Window(self._start, min(self._start + self._window, end), self._mean())

    def _forget(self) -> None:
        """Leave out the frames before the window."""
        while self._inside and self._inside[0][0] + _ROUNDING < self._start:
            self._before = self._inside.popleft()[1]
            self._total = self._total - self._before if self._inside else 0.0

    def _mean(self) -> np.ndarray:
        if self._inside:
            return np.asarray(self._total) / len(self._inside)
        assert self._before is not None  # a part begins with a frame
        return self._before
