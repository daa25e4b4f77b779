"""Many files to one result each: decoded ahead in threads, answered in batches, in the order of the files."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ga2clip.predictions import Failure, Prediction, rank
from ga2clip.runtime.decode import Clip, decode_ahead
from ga2clip.runtime.model import Encoded
from ga2clip.runtime.scoring import Scorer

Decoder = Callable[[str], Clip]
"""The clip of a file. Raises VideoError."""


def answer_files(
    paths: Iterable[object],
    decoder: Decoder,
    answer: Callable[[Sequence[tuple[str, Clip]]], list[Prediction]],
    *,
    batch: int,
    workers: int,
) -> Iterator[Prediction | Failure]:
    """Yields one result per file, in order; at most 2 · `batch` + `workers` files are decoded in advance.

    answer: the predictions for up to `batch` clips, at least one, with their files.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        clips = decode_ahead(pool, decoder, paths, ahead=2 * batch + workers)
        while part := list(itertools.islice(clips, batch)):
            good = [(file, clip) for file, clip in part if isinstance(clip, Clip)]
            answers = iter(answer(good) if good else [])
            for file, clip in part:
                yield Failure(file, clip) if isinstance(clip, str) else next(answers)


def encode_each(
    paths: Iterable[object], decoder: Decoder, encode: Callable[[str, Clip], Encoded], *, workers: int
) -> Iterator[Encoded | Failure]:
    """Yields one result per file, in order, each encoded by itself."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        for file, clip in decode_ahead(pool, decoder, paths, ahead=workers + 2):
            yield Failure(file, clip) if isinstance(clip, str) else encode(file, clip)


def predictions(
    clips: Sequence[tuple[str, Clip]], features: np.ndarray, scorer: Scorer, top: int
) -> list[Prediction]:
    """The rankings of N clips, each with its file, from their video features (N, D)."""
    probabilities = scorer.probabilities(features)
    chosen = scorer.chosen(features)
    return [
        Prediction(
            file,
            len(clip.frames),
            clip.duration,
            rank(scorer.labels, row, top),
            clip.warnings,
            None if chosen is None else _names_of(scorer.labels, row, chosen[number]),
        )
        for number, ((file, clip), row) in enumerate(zip(clips, probabilities, strict=True))
    ]


def _names_of(labels: Sequence[str], probabilities: np.ndarray, chosen: np.ndarray) -> tuple[str, ...]:
    """The chosen labels, the most probable first."""
    ranked = rank(labels, probabilities, len(labels))
    wanted = {label for label, taken in zip(labels, chosen, strict=True) if taken}
    return tuple(label for label, _ in ranked if label in wanted)
