"""Frames that show what the frame before them shows are not encoded again.

A frame is compared with the last *encoded* one, so nothing adds up: in blocks of 8 × 8 prepared pixels, in each colour
channel, the mean absolute difference; it moved if the largest of them is above a bound. Blocks, because an action may
take a small part of the picture; means, because a camera's noise is in every pixel. In haze or at night the same motion
changes pixels less, so the bound shrinks with the contrast of the last encoded frame.
"""

from collections.abc import Callable

import numpy as np

from ga2clip.choices import STILL
from ga2clip.errors import UserError
from ga2clip.runtime.arguments import zero_or_more
from ga2clip.runtime.model import ClipModel

_BLOCK = 8
_CONTRAST = 40.0
"""Standard deviation of the brightness (of 255) from which on the bound holds as it is; below, it is in proportion.
The first frames of 28 real clips have 2 to 82, three quarters of them 40 or more. Of 30, 40 and 50 this is the
smallest with which no fade of a clear frame changed a window by more than 0.01; 50 saves less of still cameras.
"""


class StillFrames:
    """Encodes frames in the order of time; one that has not moved gets the features of the last encoded frame.

    Attributes:
        reused: frames so far that were not encoded.
    """

    def __init__(self, encode: Callable[[np.ndarray], np.ndarray], still: float) -> None:
        """encode: prepared frames uint8 (T, S, S, 3) → features float32 (T, D). still: the bound at ordinary
        contrast; 0: encode all.

        Raises UserError for a bound below 0.
        """
        zero_or_more("still", still)
        self._encode, self._still = encode, still
        self._shown: np.ndarray | None = None
        self._bound = 0.0  # at the contrast of the shown frame
        self._feature: np.ndarray | None = None
        self.reused = 0

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Features float32 (T, D) of the next frames uint8 (T, S, S, 3)."""
        if not self._still:
            return self._encode(frames)
        new: list[np.ndarray] = []
        rows = []  # of each frame, in the features of the last encoded frame and the new ones
        for frame in frames:
            if self._shown is None or largest_change(frame, self._shown) > self._bound:
                self._shown, self._bound = frame, self._still * min(1.0, contrast(frame) / _CONTRAST)
                new.append(frame)
            rows.append(len(new))
        self.reused += len(frames) - len(new)
        known = [] if self._feature is None else [self._feature[None]]
        features = np.concatenate([*known, *([self._encode(np.stack(new))] if new else [])])
        self._feature = features[-1]
        return features[np.array(rows) - (1 - len(known))]


def still_bound(model: ClipModel, still: float | None) -> float:
    """The bound of `StillFrames` for a model: `still`, by default `STILL`, or 0 where frames are not independent.

    Raises UserError for a bound below 0, and for any but 0 where frames are not independent.
    """
    if still is None:
        return STILL if model.independent_frames else 0.0
    if zero_or_more("still", still) and not model.independent_frames:
        raise UserError(
            f"{model.name} encodes frames with their neighbours: one that has not moved can't keep its features",
            "leave out --still, or set it to 0: all frames are then encoded",
        )
    return still


def largest_change(frame: np.ndarray, other: np.ndarray) -> float:
    """The largest mean absolute difference of a block in a colour channel of two frames uint8 (S, S, 3)."""
    difference = np.abs(frame.astype(np.int16) - other)
    starts = np.arange(0, len(frame), _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(difference, starts, axis=0, dtype=np.int32), starts, axis=1)
    sides = np.diff(np.append(starts, len(frame)))
    return float((sums / (sides[:, None, None] * sides[:, None])).max())


def contrast(frame: np.ndarray) -> float:
    """The standard deviation of the brightness, the mean of the channels, of a frame uint8 (S, S, 3)."""
    return float(frame.mean(axis=2).std())
