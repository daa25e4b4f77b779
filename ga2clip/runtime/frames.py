"""The features of the frames of a video, with their times; decoding runs ahead of encoding."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.sliding import Features
from ga2clip.video import Gap, Playback

_FRAMES_PER_RUN = 8
_Item = TypeVar("_Item")


def frame_features(predictor: Predictor, source: str | os.PathLike[str], fps: float) -> Features:
    """(seconds, feature float32 (D,)) of at most `fps` frames per second of the video, each encoded once, and gaps.

    Raises VideoError for a file that can't be decoded.
    """
    with Playback(source, fps) as playback:
        prepared = (_prepared(predictor, item) for item in playback.frames())
        for group in run_ahead(_groups(prepared)):
            frames = [item[1] for item in group if not isinstance(item, Gap)]
            features = iter(predictor.encode_frames(np.stack(frames)) if frames else ())
            for item in group:
                yield item if isinstance(item, Gap) else (item[0], next(features))


def _prepared(predictor: Predictor, item: tuple[float, np.ndarray] | Gap) -> tuple[float, np.ndarray] | Gap:
    return item if isinstance(item, Gap) else (item[0], predictor.prepare(item[1][None])[0])


def run_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; while one is used, a thread makes the next."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _groups(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while group := list(islice(rest, _FRAMES_PER_RUN)):
        yield group
