"""A camera, an address or standard input goes in; an answer per stride comes out while it plays, without an
end.

A live source can't wait: when the encoder can't keep up, the oldest waiting frames are dropped and counted.
A pipe can wait, so nothing of it is dropped.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ga2clip.predictions import rank
from ga2clip.runtime.arguments import at_least_one, video_path
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.scoring import Scorer
from ga2clip.runtime.sliding import check_window, windows
from ga2clip.video import iter_frames

_WAITING = 8  # frames between the decoder and the encoder


@dataclass(frozen=True)
class StreamResult:
    """The ranking at `time` seconds, over the window before it; dropped: frames lost so far for want of
    speed.
    """

    time: float
    predictions: tuple[tuple[str, float], ...]
    dropped: int

    def to_json(self) -> dict[str, Any]:
        """`{"time", "predictions": [{"label", "probability"}…], "dropped"}`."""
        ranking = [{"label": label, "probability": probability} for label, probability in self.predictions]
        return {"time": self.time, "predictions": ranking, "dropped": self.dropped}


def follow(
    predictor: Predictor,
    source: str,
    *,
    window: float = 2.0,
    stride: float = 0.5,
    fps: float = 4.0,
    classes: Sequence[str] | None = None,
    template: str | None = None,
    reject: bool = False,
    top: int = 1,
) -> Iterator[StreamResult]:
    """Answers for a source as it plays: `-` (standard input), an address such as rtsp://…, a camera, or a
    file.

    window, stride, fps: as `timeline`. Errors: VideoError when the source can't be opened or dies; UserError, at the
    call, for a question that can't be asked.
    """
    check_window(window, stride, fps)
    source, top = video_path(source), at_least_one("top", top)
    return _follow(predictor, source, predictor.scorer(classes, template, reject), window, stride, fps, top)


def _follow(
    predictor: Predictor, source: str, scorer: Scorer, window: float, stride: float, fps: float, top: int
) -> Iterator[StreamResult]:
    with _Reader(source, fps, live=_is_live(source)) as reader:
        features = (
            (time, predictor.encode_frames(predictor.prepare(f[None]))[0]) for time, f in reader.frames()
        )
        for part in windows(features, window, stride, 1 / fps):
            probabilities = scorer.probabilities(part.feature[None])[0]
            yield StreamResult(part.end, rank(scorer.labels, probabilities, top), reader.dropped)


def _is_live(source: str) -> bool:
    return "://" in source or source.startswith("/dev/")


class _Reader:
    """Decodes in a thread. live: drop the oldest frame instead of waiting when `_WAITING` are there."""

    def __init__(self, source: str, fps: float, *, live: bool) -> None:
        self.dropped = 0
        self._source, self._fps, self._live = source, fps, live
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: Exception | None = None
        # A daemon, because a source that says nothing can keep the decoder waiting.
        self._thread = threading.Thread(target=self._decode, name="decode", daemon=True)

    def __enter__(self) -> "_Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds, frame) until the source ends. Errors: what the decoder raised."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._ended)
                if not self._frames:
                    break
                item = self._frames.popleft()
                self._changed.notify_all()
            yield item
        if self._error:
            raise self._error

    def _decode(self) -> None:
        try:
            for item in iter_frames(self._source, self._fps):
                if not self._put(item):
                    return
        except Exception as error:  # handed to the thread that reads
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: tuple[float, np.ndarray]) -> bool:
        """Queue a frame; False when nobody reads any more."""
        with self._changed:
            if self._live and len(self._frames) >= _WAITING:
                self._frames.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._frames) < _WAITING or self._closed)
            self._frames.append(item)
            self._changed.notify_all()
            return not self._closed
