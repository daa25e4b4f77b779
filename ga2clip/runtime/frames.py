"""Frame features of a video with their times. A thread decodes the next frames while the current ones are encoded."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.sliding import Features
from ga2clip.runtime.still import StillFrames
from ga2clip.video import Gap, Playback

_FRAMES_PER_RUN = 8
_Item = TypeVar("_Item")


def frame_features(
    predictor: Predictor, source: str | os.PathLike[str], fps: float, still: StillFrames
) -> Features:
    """Encodes at most `fps` frames per second of video; yields (seconds, feature float32 (D,)) or a `Gap`, in order.

    still: encodes the frames, with the predictor.

    Raises VideoError for a file that can't be decoded.
    """
    with Playback(source, fps) as playback:
        prepared = (_prepared(predictor, item) for item in playback.frames())
        for group in run_ahead(_groups(prepared)):
            frames = [item[1] for item in group if not isinstance(item, Gap)]
            features = iter(still.encode(np.stack(frames)) if frames else ())
            for item in group:
                yield item if isinstance(item, Gap) else (item[0], next(features))


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
