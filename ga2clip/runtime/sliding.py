"""Sliding windows over frame features; the feature of a window is the mean over its frames.

    frames    . . . . . . . . . . . . .
    windows   |-------|
                  |-------|                 each starts one stride after the one before
                      |-------|

A gap in the video ends the windows before it; the first window after it starts at its end.
Each frame is added once, whatever the overlap: the sum of a window is that of the previous one, plus the frames that
entered, minus those that left. Only the frames of one window are kept in memory.
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
"""(seconds, feature (D,)) in rising order of time, with a `Gap` where the video shows nothing."""


@dataclass(frozen=True)
class Window:
    """A window from `start` to `end` seconds (exclusive), with the mean feature float64 (D,) of its frames."""

    start: float
    end: float
    feature: np.ndarray


def check_window(window: float, stride: float, fps: float) -> None:
    """Raises UserError for numbers that are not above 0, and for a stride longer than the window."""
    for name, value in (("window", window), ("stride", stride), ("fps", fps)):
        above_zero(name, value)
    if stride > window:
        raise UserError(
            f"stride {stride:g} s is longer than the window {window:g} s: frames between windows would be ignored",
            "make the window at least as long as the stride",
        )


def windows(features: Features, window: float, stride: float, last_frame: float) -> Iterator[Window | Gap]:
    """Windows of `window` seconds, `stride` seconds apart, from 0 to the end of the video, and its gaps.

    The last window before the end or a gap may be shorter, so that every frame is in a window; a video shorter than a
    window is one window. A window without any frame (in a video of variable frame rate) gets the feature of the frame
    before it, which is still shown. last_frame: seconds for which the last frame is shown.
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
        """Add a frame; yields the windows that are complete now, since they end at or before `time`."""
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
        """Yields the last window, cut at `end`, if it has a frame."""
        if self._inside:
            yield Window(self._start, min(self._start + self._window, end), self._mean())

    def _forget(self) -> None:
        """Drop the frames that lie before the current window."""
        while self._inside and self._inside[0][0] + _ROUNDING < self._start:
            self._before = self._inside.popleft()[1]
            self._total = self._total - self._before if self._inside else 0.0

    def _mean(self) -> np.ndarray:
        if self._inside:
            return np.asarray(self._total) / len(self._inside)
        assert self._before is not None  # a part begins with a frame
        return self._before
