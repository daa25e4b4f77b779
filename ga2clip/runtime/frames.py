"""Frames of a video for sliding windows. A thread decodes the next ones while the current ones are encoded."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.sliding import Features
from ga2clip.runtime.still import StillFrames, still_bound
from ga2clip.video import Gap, Playback

_FRAMES_PER_RUN = 8
_Item = TypeVar("_Item")


class WindowEncoder:
    """Encodes the frames of sliding windows.

    Where the model's frames are independent, each is encoded once: its features are kept, and a window pools them. Else
    a frame's features differ from window to window, so its pixels are kept, and each window is encoded as a clip.

    Attributes:
        encoded: frames that were encoded so far, those of overlapping windows as often as they were.
        reused: frames so far that had not changed and were not encoded.
    """

    def __init__(self, predictor: Predictor, still: float | None) -> None:
        """still: as `still_bound` has it. Raises UserError as that."""
        self._predictor = predictor
        self._each = predictor.model.independent_frames
        self._still = StillFrames(self._encode, still_bound(predictor.model, still))
        self.encoded = 0

    @property
    def reused(self) -> int:
        """As above."""
        return self._still.reused

    def keep(self, frames: np.ndarray) -> np.ndarray:
        """What is kept of the next prepared frames uint8 (T, S, S, 3): features float32 (T, D), or the frames."""
        return self._still.encode(frames) if self._each else frames

    def pool(self, kept: np.ndarray) -> np.ndarray:
        """Video features float32 (1, D) of a window, given what `keep` returned of its frames (1, T, …)."""
        if self._each:
            return self._predictor.pool(kept)
        self.encoded += kept.shape[1]
        return self._predictor.encode_clips(kept)

    def frame_features(self, kept: np.ndarray) -> np.ndarray:
        """Frame features float32 (T, D) of a window, given what `keep` returned of its frames (T, …)."""
        return kept if self._each else self._encode(kept)

    def _encode(self, frames: np.ndarray) -> np.ndarray:
        self.encoded += len(frames)
        return self._predictor.encode_frames(frames)


def kept_frames(
    predictor: Predictor, source: str | os.PathLike[str], fps: float, encoder: WindowEncoder
) -> Features:
    """At most `fps` frames per second of video: yields (seconds, what the encoder keeps of it) or a `Gap`, in order.

    Raises VideoError for a file that can't be decoded.
    """
    with Playback(source, fps) as playback:
        prepared = (_prepared(predictor, item) for item in playback.frames())
        for group in run_ahead(_groups(prepared)):
            frames = [item[1] for item in group if not isinstance(item, Gap)]
            kept = iter(encoder.keep(np.stack(frames)) if frames else ())
            for item in group:
                yield item if isinstance(item, Gap) else (item[0], next(kept))


def _prepared(predictor: Predictor, item: tuple[float, np.ndarray] | Gap) -> tuple[float, np.ndarray] | Gap:
    return item if isinstance(item, Gap) else (item[0], predictor.prepare(item[1][None])[0])


def run_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yields the items unchanged; a thread fetches the next one while the caller uses the current one."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _groups(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while group := list(islice(rest, _FRAMES_PER_RUN)):
        yield group
