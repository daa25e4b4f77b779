"""Files decoded in threads, ahead of the encoder."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.arguments import video_path
from ga2clip.video import Preprocess, SamplingRule

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A decoded clip: frames uint8 (T, S, S, 3), duration in seconds, warnings of the decoder, times of the frames."""

    frames: np.ndarray
    duration: float
    warnings: tuple[str, ...]
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))


def decoder(pixels: Preprocess, rule: SamplingRule, time_limit: float | None) -> Callable[[str], Clip]:
    """A function that gives the clip which a rule samples from a file; it raises VideoError."""
    from ga2clip.video import sample_frames  # here: PyAV loads while the model's engine opens

    def decode(path: str) -> Clip:
        clip = sample_frames(path, rule, size=pixels, time_limit=time_limit)
        return Clip(pixels.frames(clip.frames), clip.info.duration, tuple(clip.warnings), clip.times)

    return decode


def decode_ahead(
    pool: ThreadPoolExecutor, decoder: Callable[[str], Clip], paths: Iterable[object], *, ahead: int
) -> Iterator[tuple[str, Clip | str]]:
    """Yields (file, clip or reason of failure) in order, with at most `ahead` files decoded in advance."""
    waiting: deque[tuple[str, Future[Clip | str]]] = deque()
    try:
        for file in map(video_path, paths):
            waiting.append((file, pool.submit(_clip_or_reason, decoder, file)))
            if len(waiting) >= ahead:
                file, future = waiting.popleft()
                yield file, future.result()
        while waiting:
            file, future = waiting.popleft()
            yield file, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _clip_or_reason(decoder: Callable[[str], Clip], path: str) -> Clip | str:
    try:
        return decoder(path)
    except UserError as error:
        return error.message
    except Exception as error:  # one bad file must not end a long batch
        _log.debug("reading %s failed", path, exc_info=True)
        return f"{path}: {type(error).__name__}: {error}"
