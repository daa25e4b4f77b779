"""Sliding windows over frame features; the feature of a window is what its frames are pooled to.

    frames    . . . . . . . . . . . . .
    windows   |-------|
                  |-------|                 each starts one stride after the one before
                      |-------|

A gap in the video ends the windows before it; the first window after it starts at its end.
A frame is encoded once, whatever the overlap, if its features depend on it alone; else windows are made of the frames
themselves, and what pools them encodes them. Only the features or frames of one window are kept in memory.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.arguments import above_zero
from ga2clip.video import Gap

_ROUNDING = 1e-6  # seconds; time stamps and multiples of the stride are not exact

Features = Iterable[tuple[float, np.ndarray] | Gap]
"""(seconds, feature (D,) or frame) in rising order of time, with a `Gap` where the video shows nothing."""

Pool = Callable[[np.ndarray], np.ndarray]
"""Frame features (B, T, D), or frames, → video features (B, D)."""


@dataclass(frozen=True)
class Window:
    """A window from `start` to `end` seconds (exclusive), with the feature (D,) that its frames are pooled to.

    inside: (seconds, feature (D,) or frame) of each of those frames.
    """

    start: float
    end: float
    feature: np.ndarray
    inside: tuple[tuple[float, np.ndarray], ...] = ()


def check_window(window: float, stride: float, fps: float) -> None:
    """Raises UserError for numbers that are not above 0, and for a stride longer than the window."""
    for name, value in (("window", window), ("stride", stride), ("fps", fps)):
        above_zero(name, value)
    if stride > window:
        raise UserError(
            f"stride {stride:g} s is longer than the window {window:g} s: frames between windows would be ignored",
            "make the window at least as long as the stride",
        )


def windows(
    features: Features, window: float, stride: float, last_frame: float, pool: Pool
) -> Iterator[Window | Gap]:
    """Windows of `window` seconds, `stride` seconds apart, from 0 to the end of the video, and its gaps.

    The last window before the end or a gap may be shorter, so that every frame is in a window; a video shorter than a
    window is one window. A window without any frame (in a video of variable frame rate) gets the feature of the frame
    before it, which is still shown. last_frame: seconds for which the last frame is shown. pool: as `ClipModel.pool`.
    """
    part = _Part(0.0, window, stride, pool)
    for item in features:
        if isinstance(item, Gap):
            yield from part.rest(item.start)
            yield item
            part = _Part(item.end, window, stride, pool)
        else:
            yield from part.add(*item)
    yield from part.rest(part.time + last_frame)


class _Part:
    """The windows of a stretch without gaps that begins at `begin` seconds."""

    def __init__(self, begin: float, window: float, stride: float, pool: Pool) -> None:
        self._begin, self._window, self._stride, self._pool = begin, window, stride, pool
        self._inside: deque[tuple[float, np.ndarray]] = deque()
        self._before: tuple[float, np.ndarray] | None = None
        self._start = self.time = begin
        self._number = 0

    def add(self, time: float, feature: np.ndarray) -> Iterator[Window]:
        """Add a frame; yields the windows that are complete now, since they end at or before `time`."""
        self.time = time
        while time + _ROUNDING >= self._start + self._window:
            yield self._whole(self._start + self._window)
            self._number += 1
            self._start = self._begin + self._number * self._stride  # not a running sum, which would drift
            self._forget()
        self._inside.append((time, feature))

    def rest(self, end: float) -> Iterator[Window]:
        """Yields the last window, cut at `end`, if it has a frame."""
        if self._inside:
            yield self._whole(min(self._start + self._window, end))

    def _forget(self) -> None:
        """Drop the frames that lie before the current window."""
        while self._inside and self._inside[0][0] + _ROUNDING < self._start:
            self._before = self._inside.popleft()

    def _whole(self, end: float) -> Window:
        inside = tuple(self._inside)
        if not inside:
            assert self._before is not None  # a part begins with a frame
            inside = (self._before,)
        feature = self._pool(np.stack([feature for _, feature in inside])[None])[0]
        return Window(self._start, end, feature, inside)
