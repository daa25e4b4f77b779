"""A video file or stream goes in, frame features (D,) with their times come out; decoding runs ahead of
encoding.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from ga2clip.runtime.predictor import Predictor
from ga2clip.video import iter_frames

_FRAMES_PER_RUN = 8
_Item = TypeVar("_Item")


def frame_features(
    predictor: Predictor, source: str | os.PathLike[str], fps: float
) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, feature float32 (D,)) of at most `fps` frames per second of the video, each encoded once.

    Errors: VideoError for a file that can't be decoded.
    """
    pictures = ((time, predictor.prepare(frame[None])[0]) for time, frame in iter_frames(source, fps))
    for group in run_ahead(_groups(pictures)):
        encoded = predictor.encode_frames(np.stack([picture for _, picture in group]))
        yield from zip((time for time, _ in group), encoded, strict=True)


def run_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; while one is used, a thread makes the next."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _groups(pictures: Iterable[tuple[float, np.ndarray]]) -> Iterator[list[tuple[float, np.ndarray]]]:
    rest = iter(pictures)
    while group := list(islice(rest, _FRAMES_PER_RUN)):
        yield group
