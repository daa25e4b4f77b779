"""Answers for a camera, an address, standard input or a file while it plays: one per stride, without an end.

A live source can't wait: when the encoder can't keep up, the oldest waiting frames are dropped and counted.
Everything else can wait, so nothing of it is dropped.
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
from ga2clip.video import Gap, Playback

_WAITING = 8  # frames between the decoder and the encoder
_Item = tuple[float, np.ndarray] | Gap


@dataclass(frozen=True)
class StreamResult:
    """The ranking at `time` seconds, over the window before it, or a gap that ends there.

    Attributes:
        time: seconds from the first frame.
        predictions: labels with their probabilities, best first; none for a gap.
        dropped: frames lost so far for want of speed.
        gap: seconds without a frame, None for a ranking.
    """

    time: float
    predictions: tuple[tuple[str, float], ...]
    dropped: int
    gap: Gap | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"time", "predictions": [{"label", "probability"}…], "dropped"}`; with `"gap": {"start", "end"}` for one."""
        ranking = [{"label": label, "probability": probability} for label, probability in self.predictions]
        record = {"time": self.time, "predictions": ranking, "dropped": self.dropped}
        return record if self.gap is None else record | {"gap": vars(self.gap)}


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
    """Answers for a source as it plays.

    Args:
        predictor: what encodes the frames.
        source: `-` (standard input), an address such as rtsp://…, a camera, a named pipe, or a file.
        window: as `timeline`, like `stride`, `fps`, `classes`, `template` and `reject`.
        top: labels in each ranking.

    Raises:
        VideoError: the source can't be opened, breaks off, or is live and ends.
        UserError: as `timeline`, at the call.
    """
    check_window(window, stride, fps)
    source, top = video_path(source), at_least_one("top", top)
    return _follow(predictor, source, predictor.scorer(classes, template, reject), window, stride, fps, top)


def _follow(
    predictor: Predictor, source: str, scorer: Scorer, window: float, stride: float, fps: float, top: int
) -> Iterator[StreamResult]:
    with _Reader(source, fps) as reader:
        features = (
            item
            if isinstance(item, Gap)
            else (item[0], predictor.encode_frames(predictor.prepare(item[1][None]))[0])
            for item in reader.frames()
        )
        for part in windows(features, window, stride, 1 / fps):
            if isinstance(part, Gap):
                yield StreamResult(part.end, (), reader.dropped, part)
                continue
            probabilities = scorer.probabilities(part.feature[None])[0]
            yield StreamResult(part.end, rank(scorer.labels, probabilities, top), reader.dropped)
        reader.raise_error()


class _Reader:
    """Decodes in a thread. Of a live source the oldest frame is dropped when `_WAITING` are there."""

    def __init__(self, source: str, fps: float) -> None:
        self.dropped = 0
        self._source, self._fps = source, fps
        self._frames: deque[_Item] = deque()
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

    def frames(self) -> Iterator[_Item]:
        """(seconds, frame) and gaps until the source ends or dies; `raise_error` tells which."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._ended)
                if not self._frames:
                    break
                item = self._frames.popleft()
                self._changed.notify_all()
            yield item

    def raise_error(self) -> None:
        """Raises what ended the decoder, if it was an error."""
        if self._error:
            raise self._error

    def _decode(self) -> None:
        try:
            with Playback(self._source, self._fps) as playback:
                for item in playback.frames():
                    if not self._put(item, live=playback.live):
                        return
        except Exception as error:  # handed to the thread that reads
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: _Item, *, live: bool) -> bool:
        """Queue an item; False when nobody reads any more."""
        with self._changed:
            if live and len(self._frames) >= _WAITING:
                self._frames.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._frames) < _WAITING or self._closed)
            self._frames.append(item)
            self._changed.notify_all()
            return not self._closed
