"""Answers for a camera, an address, standard input or a file while it plays: one ranking per stride, until it ends.

A live source can't wait: when the encoder is too slow, the oldest waiting frames are dropped and counted. All other
sources can wait, so no frame of theirs is dropped.
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ga2clip.predictions import rank
from ga2clip.runtime.arguments import at_least_one, video_path
from ga2clip.runtime.frames import WindowEncoder
from ga2clip.runtime.predictor import Classes, Predictor
from ga2clip.runtime.scoring import Scorer
from ga2clip.runtime.sliding import check_window, windows
from ga2clip.video import Gap, Playback

_WAITING = 8  # frames between the decoder and the encoder
_Item = tuple[float, np.ndarray] | Gap


@dataclass(frozen=True)
class StreamResult:
    """The ranking for the window that ends at `time`, or a gap that ends there.

    Attributes:
        time: seconds from the first frame.
        predictions: labels with their probabilities, best first; empty for a gap.
        dropped: frames dropped so far because the encoder was too slow.
        gap: start and end of the gap, in seconds; None for a ranking.
        reused: frames so far that had not changed since the last encoded one, and were not encoded.
    """

    time: float
    predictions: tuple[tuple[str, float], ...]
    dropped: int
    gap: Gap | None = None
    reused: int = 0

    def to_json(self) -> dict[str, Any]:
        """`{"time", "predictions": [{"label", "probability"}…], "dropped", "reused"}`; of a gap also `"gap": {"start",
        "end"}`."""
        ranking = [{"label": label, "probability": probability} for label, probability in self.predictions]
        counts = {"dropped": self.dropped, "reused": self.reused}
        record = {"time": self.time, "predictions": ranking, **counts}
        return record if self.gap is None else record | {"gap": vars(self.gap)}


def follow(
    predictor: Predictor,
    source: str,
    *,
    window: float = 2.0,
    stride: float = 0.5,
    fps: float = 4.0,
    classes: Classes | None = None,
    template: str | None = None,
    reject: bool = False,
    top: int = 1,
    still: float | None = None,
) -> Iterator[StreamResult]:
    """Rank the classes for a source while it plays.

    Args:
        predictor: the model.
        source: `-` (standard input), an address such as rtsp://…, a camera, a named pipe, or a file.
        window: as in `timeline`; the same holds for `stride`, `fps`, `classes`, `template`, `reject` and `still`.
        top: number of labels in each ranking.

    Yields:
        A ranking every `stride` seconds, and gaps.

    Raises:
        VideoError: the source can't be opened, breaks off, or is a live source that ended.
        UserError: as `timeline`; raised by the call itself, not by the iterator.
    """
    check_window(window, stride, fps)
    source, top = video_path(source), at_least_one("top", top)
    encoder = WindowEncoder(predictor, still)
    scorer = predictor.scorer(classes, template, reject)
    return _follow(predictor, source, scorer, encoder, window, stride, fps, top)


def _follow(
    predictor: Predictor,
    source: str,
    scorer: Scorer,
    encoder: WindowEncoder,
    window: float,
    stride: float,
    fps: float,
    top: int,
) -> Iterator[StreamResult]:
    with _Reader(source, fps) as reader:
        frames = (
            item if isinstance(item, Gap) else (item[0], encoder.keep(predictor.prepare(item[1][None]))[0])
            for item in reader.frames()
        )
        for part in windows(frames, window, stride, 1 / fps, encoder.pool):
            if isinstance(part, Gap):
                yield StreamResult(part.end, (), reader.dropped, part, encoder.reused)
                continue
            probabilities = scorer.probabilities(part.feature[None])[0]
            ranking = rank(scorer.labels, probabilities, top)
            yield StreamResult(part.end, ranking, reader.dropped, reused=encoder.reused)
        reader.raise_error()


class _Reader:
    """Decodes in a thread. For a live source, the oldest frame is dropped when `_WAITING` frames are waiting."""

    def __init__(self, source: str, fps: float) -> None:
        self.dropped = 0
        self._source, self._fps = source, fps
        self._frames: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: Exception | None = None
        # A daemon, because a silent source can block the decoder.
        self._thread = threading.Thread(target=self._decode, name="decode", daemon=True)

    def __enter__(self) -> "_Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def frames(self) -> Iterator[_Item]:
        """Yields (seconds, frame) and gaps until the source ends or fails; then call `raise_error`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._ended)
                if not self._frames:
                    break
                item = self._frames.popleft()
                self._changed.notify_all()
            yield item

    def raise_error(self) -> None:
        """Raises the decoder's error, if there was one."""
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
        """Queue an item; False when the reader was closed."""
        with self._changed:
            if live and len(self._frames) >= _WAITING:
                self._frames.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._frames) < _WAITING or self._closed)
            self._frames.append(item)
            self._changed.notify_all()
            return not self._closed
