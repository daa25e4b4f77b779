"""`Predictor`, the front door of the runtime: videos go in, rankings of class names come out.

file → frames uint8 (T, S, S, 3) → video feature (D,) → cosines with class features (C, D) → softmax →
ranking.
"""

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from ga2clip.errors import UserError
from ga2clip.labels import comparable
from ga2clip.predictions import Failure, Prediction, rank
from ga2clip.runtime.arguments import (
    at_least_one,
    class_names,
    flag,
    prepared_clips,
    prepared_frames,
    rgb_frames,
    seconds,
    sentence,
    video_path,
    video_paths,
)
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.model import ClipModel
from ga2clip.runtime.scoring import NONE_LABEL, Scorer
from ga2clip.video import SamplingRule, sample_frames

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Clip:
    """A decoded clip: frames uint8 (T, S, S, 3), seconds, and what was wrong with it."""

    frames: np.ndarray
    duration: float
    warnings: tuple[str, ...]


class _Closed:
    """Stands where a model was."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UserError("this predictor is closed", "open the model again")


class Predictor:
    """Names actions in videos. `with` closes it; one object may be used from several threads.

    Args:
        model: the folder of a bundle, which needs no torch, or any `ClipModel` (`ga2clip.open_predictor` also opens
            runs and backbones).
        classes: the names that are ranked when a question gives none; None: the model's own.
        provider: of a bundle: `auto` (CUDA where there is a driver, else the CPU), `cpu`, `cuda`, `cuda:N`,
            `tensorrt` or `openvino`; the attribute `provider` says which one was obtained.
        threads: of a bundle: cores that its encoders take, 0: all.
        cache: of a bundle: remember the features of class names on disk.
        signed_by: of a bundle: a PEM file with the Ed25519 public key that must have signed it.

    Raises:
        UserError: the bundle is missing, damaged, of a newer schema or not signed by that key, or the class names
            can't be used.

    Example:
        >>> with Predictor("bundle") as predictor:
        ...     predictor.predict("clip.mp4", top=5).predictions
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ClipModel,
        *,
        classes: Iterable[str] | None = None,
        provider: str = "auto",
        threads: int = 0,
        cache: bool = True,
        signed_by: str | os.PathLike[str] | None = None,
    ) -> None:
        own = None if classes is None else class_names(classes)
        if not isinstance(model, str | os.PathLike) and not hasattr(model, "encode_clips"):
            raise UserError(f"a model is the folder of a bundle, got {model!r:.60}", "such as 'run/bundle'")
        cache = flag("cache", cache)
        self.model: ClipModel = (
            BundleModel(Path(model), provider=provider, threads=threads, cache=cache, signed_by=signed_by)
            if isinstance(model, str | os.PathLike)
            else model
        )
        self.classes = own or self.model.classes
        """The names that are ranked when a question gives none."""
        self._rule = SamplingRule(frames=self.model.frames)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model and its memory; what is asked afterwards is an error, closing again is not."""
        if not isinstance(self.model, _Closed):
            gone: Any = _Closed()
            model, self.model = self.model, gone
            model.close()

    @property
    def name(self) -> str:
        """Which model speaks, for people."""
        return self.model.name

    @property
    def provider(self) -> str:
        """What computes: `cpu`, `cuda`, `torch on cpu` …"""
        return self.model.provider

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hexadecimal digits, of what decides an answer beside the question."""
        return self.model.fingerprint

    @property
    def can_reject(self) -> bool:
        """Whether the model has a threshold for "none of these"."""
        return self.model.threshold is not None

    def predict(
        self,
        path: str | os.PathLike[str],
        classes: Iterable[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
    ) -> Prediction:
        """The most probable classes of a video file.

        Args:
            path: the file.
            classes: names to choose from; None: `Predictor.classes`.
            top: how many of them the answer holds, best first.
            template: a sentence with `{}` for the name in place of the model's class text.
            reject: let "none of these" take part.

        Raises:
            VideoError: the file can't be decoded.
            UserError: class names, a number or a template that can't be used; a model that can't reject.
        """
        file, top = video_path(path), at_least_one("top", top)
        scorer = self.scorer(classes, template, reject)
        return self._answers([(file, self._decode(file, None))], scorer, top)[0]

    def predict_frames(
        self,
        frames: np.ndarray,
        classes: Iterable[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
    ) -> Prediction:
        """As `predict`, for frames uint8 (T, H, W, 3) RGB of any T ≥ 1, H and W; all of them are encoded.

        Raises:
            UserError: as `predict`, and for another dtype or shape.
        """
        clip, top = _Clip(self.prepare(frames), 0.0, ()), at_least_one("top", top)
        return self._answers([("", clip)], self.scorer(classes, template, reject), top)[0]

    def predict_many(
        self,
        paths: Iterable[str | os.PathLike[str]],
        classes: Iterable[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
        *,
        batch: int = 4,
        workers: int = 1,
        time_limit: float = 60.0,
    ) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the paths; a file that can't be read gives a `Failure` and the rest goes on.

        Args:
            paths: the files; an iterator is read only a little ahead.
            classes: as `predict`, like `top`, `template` and `reject`.
            batch: clips encoded at once.
            workers: threads that decode the next clips meanwhile.
            time_limit: seconds that decoding one file may take.

        Raises:
            UserError: as `predict`, and for numbers that can't be used: all at the call, before the first answer.
        """
        files, top = video_paths(paths), at_least_one("top", top)
        batch, workers = at_least_one("batch", batch), at_least_one("workers", workers)
        limit = seconds("time_limit", time_limit)
        return self._predict_many(files, self.scorer(classes, template, reject), top, batch, workers, limit)

    def scorer(
        self, classes: Iterable[str] | None = None, template: str | None = None, reject: bool = False
    ) -> Scorer:
        """The classes to ask about, encoded. Raises UserError as `predict`."""
        reject = flag("reject", reject)
        threshold = self.model.threshold if reject else None
        if reject and threshold is None:
            raise UserError(
                f"{self.name} has no threshold for '{NONE_LABEL}'",
                "export fits it on the run's clips: `ga2clip export RUN`, where its dataset is",
            )
        names = self.classes if classes is None else class_names(classes)
        if reject and NONE_LABEL in map(comparable, names):
            raise UserError(
                f"a class is called '{NONE_LABEL}', which is the answer of a model that may reject",
                "leave this class out, or do without reject",
            )
        features = self.encode_classes(names, template)
        labels = (*names, NONE_LABEL) if reject else names
        return Scorer(labels, features, self.model.negatives, self.model.scale, threshold)

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 (T, H, W, 3) RGB → uint8 (T, S, S, 3), the encoder's size.

        Raises:
            UserError: anything else than such frames.
        """
        return self.model.preprocess.frames(rgb_frames(frames))

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """Prepared frames uint8 (T, S, S, 3) → frame features float32 (T, D), not normalised.

        Raises:
            UserError: anything else than such frames.
        """
        return self.model.encode_frames(prepared_frames(frames, self.model.preprocess.size))

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """Prepared clips uint8 (B, T, S, S, 3) → video features float32 (B, D), not normalised: means over frames.

        Raises:
            UserError: anything else than such clips.
        """
        return self.model.encode_clips(prepared_clips(clips, self.model.preprocess.size))

    def encode_classes(self, names: Iterable[str], template: str | None = None) -> np.ndarray:
        """Class names → features float32 (C, D), L2-normalised.

        Raises:
            UserError: names that can't be told apart or are too long; a template that is no text with one `{}`.
        """
        template = sentence(template)
        return self.model.encode_classes(class_names(names), template)

    def _predict_many(
        self, paths: Iterable[object], scorer: Scorer, top: int, batch: int, workers: int, limit: float
    ) -> Iterator[Prediction | Failure]:
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            clips = self._decode_ahead(pool, paths, ahead=2 * batch + workers, time_limit=limit)
            while part := list(itertools.islice(clips, batch)):
                good = [(file, clip) for file, clip in part if isinstance(clip, _Clip)]
                answers = iter(self._answers(good, scorer, top))
                for file, clip in part:
                    yield Failure(file, clip) if isinstance(clip, str) else next(answers)

    def _decode(self, path: str, time_limit: float | None) -> _Clip:
        pixels = self.model.preprocess
        clip = sample_frames(path, self._rule, size=pixels.size, time_limit=time_limit)
        return _Clip(pixels.frames(clip.frames), clip.info.duration, tuple(clip.warnings))

    def _decode_or_reason(self, path: str, time_limit: float) -> "_Clip | str":
        try:
            return self._decode(path, time_limit)
        except UserError as error:
            return error.message
        except Exception as error:  # one file must not end a night's batch
            _log.debug("reading %s failed", path, exc_info=True)
            return f"{path}: {type(error).__name__}: {error}"

    def _decode_ahead(
        self, pool: ThreadPoolExecutor, paths: Iterable[object], *, ahead: int, time_limit: float
    ) -> Iterator[tuple[str, "_Clip | str"]]:
        """(file, clip or reason) in order, with at most `ahead` files in flight."""
        waiting: deque[tuple[str, Future[_Clip | str]]] = deque()
        try:
            for file in map(video_path, paths):
                waiting.append((file, pool.submit(self._decode_or_reason, file, time_limit)))
                if len(waiting) >= ahead:
                    file, future = waiting.popleft()
                    yield file, future.result()
            while waiting:
                file, future = waiting.popleft()
                yield file, future.result()
        finally:
            for _, future in waiting:
                future.cancel()

    def _answers(self, clips: Sequence[tuple[str, _Clip]], scorer: Scorer, top: int) -> list[Prediction]:
        if not clips:
            return []
        features = self.encode_clips(np.stack([clip.frames for _, clip in clips]))
        return [
            Prediction(file, len(clip.frames), clip.duration, rank(scorer.labels, row, top), clip.warnings)
            for (file, clip), row in zip(clips, scorer.probabilities(features), strict=True)
        ]
