"""A bundle and videos go in, rankings of class names come out: `Predictor`, the front door of the runtime.

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
from ga2clip.predictions import Failure, Prediction, rank
from ga2clip.runtime.bundle import open_bundle
from ga2clip.runtime.card import PROVIDER_LIMIT, VIDEO_ENCODER
from ga2clip.runtime.engine import check_provider
from ga2clip.runtime.scoring import NONE_LABEL, Scorer
from ga2clip.runtime.text import ClassEncoder
from ga2clip.video import Preprocess, SamplingRule, sample_frames

_log = logging.getLogger(__name__)
_TEXT_PROVIDERS = {"cpu", "cuda", "openvino"}


@dataclass(frozen=True)
class _Clip:
    """A decoded clip: frames uint8 (T, S, S, 3), seconds, and what was wrong with it."""

    frames: np.ndarray
    duration: float
    warnings: tuple[str, ...]


class _Closed:
    """Stands where an encoder was."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UserError("this predictor is closed", "open the bundle again")


class Predictor:
    """Names actions in videos with a bundle, without torch.

    provider: `auto` (CUDA where there is a driver, else the CPU), `cpu`, `cuda`, `tensorrt` or `openvino`;
    `provider` then says which one was obtained. threads: cores that the encoder takes, 0: all. cache:
    remember the features of class names on disk. signed_by: the public key (PEM) that must have signed the bundle.
    One object may be used from several threads; `with` closes it. Errors: UserError for a bundle that is missing,
    damaged, of another schema version or not signed by that key.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        provider: str = "auto",
        threads: int = 0,
        cache: bool = True,
        signed_by: str | os.PathLike[str] | None = None,
    ) -> None:
        self.bundle = open_bundle(Path(bundle), signed_by=None if signed_by is None else Path(signed_by))
        self.card = self.bundle.card
        self.requested_provider = provider
        self._engine = self.bundle.engine(VIDEO_ENCODER, provider, threads=threads)
        self.provider = self._engine.provider
        if self.provider != "cpu":
            probe = self.bundle.probe()
            limit = PROVIDER_LIMIT[self.card.precision]
            check_provider(
                self._engine, "frames", probe.frames, "frame_features", probe.frame_features, limit
            )
        if provider not in ("auto", self.provider):
            _log.warning("asked for the provider '%s', got '%s'", provider, self.provider)
        if self.card.precision == "int8" and self.provider in ("cuda", "tensorrt"):
            _log.warning("int8 bundles are made for CPUs; on a GPU export with --precision fp16")
        text_provider = self.provider if self.provider in _TEXT_PROVIDERS else "cpu"
        self._text = ClassEncoder(self.bundle, provider=text_provider, threads=threads, cache=cache)
        pixels = self.card.preprocess
        self._preprocess = Preprocess(size=pixels.size, mean=pixels.mean, std=pixels.std)
        self._rule = SamplingRule(frames=self.card.sampling.frames, mode="segments", train=False)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the encoders and their memory; what is asked afterwards is an error, closing again is not."""
        gone: Any = _Closed()
        self._engine = self._text = gone

    @property
    def name(self) -> str:
        """Which model speaks, for people."""
        return f"{self.card.method} on {self.card.backbone.name} ({self.card.precision}), {self.bundle.path}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the bundle's own text bank."""
        return self.card.classes

    @property
    def can_reject(self) -> bool:
        """Whether the bundle has a threshold for "none of these"."""
        return self.card.reject is not None

    def predict(
        self,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
    ) -> Prediction:
        """The `top` most probable classes of a video file.

        classes: names to choose from, None: the bundle's own. template: a sentence with `{}` instead of the
        bundle's class text. reject: let "none of these" take part. Errors: VideoError for a file that can't
        be decoded, UserError for class names or a template that can't be used.
        """
        scorer = self.scorer(classes, template, reject)
        clip = self._decode(Path(path), None)
        return self._answers([(os.fspath(path), clip)], scorer, top)[0]

    def predict_frames(
        self,
        frames: np.ndarray,
        classes: Sequence[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
    ) -> Prediction:
        """As `predict`, for frames uint8 (T, H, W, 3) RGB of any T ≥ 1, H and W; all of them are encoded.

        Errors: UserError for another dtype or shape.
        """
        scorer = self.scorer(classes, template, reject)
        clip = _Clip(self.prepare(frames), 0.0, ())
        return self._answers([("", clip)], scorer, top)[0]

    def predict_many(
        self,
        paths: Iterable[str | os.PathLike[str]],
        classes: Sequence[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
        *,
        batch: int = 4,
        workers: int = 1,
        time_limit: float = 60.0,
    ) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the paths; a file that can't be read gives a Failure and the rest goes
        on.

        batch: clips encoded at once. workers: threads that decode the next clips meanwhile. time_limit:
        seconds that decoding one file may take.
        """
        if batch < 1 or workers < 1:
            raise UserError(f"batch and workers must be at least 1, got {batch} and {workers}")
        scorer = self.scorer(classes, template, reject)
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            clips = self._decode_ahead(pool, paths, ahead=2 * batch + workers, time_limit=time_limit)
            while part := list(itertools.islice(clips, batch)):
                good = [(file, clip) for file, clip in part if isinstance(clip, _Clip)]
                answers = iter(self._answers(good, scorer, top))
                for file, clip in part:
                    yield Failure(file, clip) if isinstance(clip, str) else next(answers)

    def scorer(
        self, classes: Sequence[str] | None = None, template: str | None = None, reject: bool = False
    ) -> Scorer:
        """The classes to ask about, encoded. Errors: UserError as `predict`, and for a bundle that can't
        reject.
        """
        if reject and self.card.reject is None:
            raise UserError(f"{self.bundle.path} has no threshold for '{NONE_LABEL}'", "export the run again")
        names = tuple(self.card.classes if classes is None else classes)
        features = self._text.encode(names, template)
        threshold = self.card.reject.threshold if reject and self.card.reject else None
        labels = (*names, NONE_LABEL) if reject else names
        return Scorer(labels, features, self._text.bank.negatives, self.card.logit_scale, threshold)

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 (T, H, W, 3) RGB → uint8 (T, S, S, 3), the encoder's size. Errors: UserError for
        anything else.
        """
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            kind = frames.dtype if isinstance(frames, np.ndarray) else type(frames).__name__
            raise UserError(f"frames must be a uint8 array, got {kind}", "RGB values from 0 to 255")
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise UserError(f"frames must be (T, H, W, 3), got {frames.shape}")
        return self._preprocess.frames(frames)

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """Prepared frames uint8 (T, S, S, 3) → frame features float32 (T, D), unnormalised."""
        if not self.card.onnx.static:
            return self._encode(frames[None])["frame_features"][0]
        length = self.card.sampling.frames
        filled = np.concatenate([frames, np.repeat(frames[-1:], -len(frames) % length, axis=0)])
        clips = filled.reshape(-1, 1, length, *frames.shape[1:])
        return np.concatenate([self._encode(clip)["frame_features"][0] for clip in clips])[: len(frames)]

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """Prepared clips uint8 (B, T, S, S, 3) → video features float32 (B, D): the mean over frames.

        An int8 bundle scales its activations by what one call holds, so its clips are encoded one by one: an
        answer does not depend on the clips beside it. Errors: UserError for another T than a static bundle has.
        """
        if not self.card.onnx.static and self.card.precision != "int8":
            return self._encode(clips)["video_features"]
        return np.concatenate([self._encode(clip[None])["video_features"] for clip in clips])

    def encode_classes(self, names: Sequence[str], template: str | None = None) -> np.ndarray:
        """Class names → features float32 (C, D), L2-normalised."""
        return self._text.encode(names, template)

    def _encode(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._engine.run({"frames": clips})
        if not all(np.isfinite(output).all() for output in outputs.values()):
            raise UserError(
                f"{self.bundle.path}: the video encoder gave numbers that are not finite",
                "export with --precision fp32"
                if self.card.precision != "fp32"
                else "export the bundle again",
            )
        return outputs

    def _decode(self, path: Path, time_limit: float | None) -> _Clip:
        clip = sample_frames(path, self._rule, size=self.card.preprocess.size, time_limit=time_limit)
        return _Clip(self._preprocess.frames(clip.frames), clip.info.duration, tuple(clip.warnings))

    def _decode_or_reason(self, path: Path, time_limit: float) -> "_Clip | str":
        try:
            return self._decode(path, time_limit)
        except UserError as error:
            return error.message
        except Exception as error:  # one file must not end a night's batch
            _log.debug("reading %s failed", path, exc_info=True)
            return f"{path}: {type(error).__name__}: {error}"

    def _decode_ahead(
        self,
        pool: ThreadPoolExecutor,
        paths: Iterable[str | os.PathLike[str]],
        *,
        ahead: int,
        time_limit: float,
    ) -> Iterator[tuple[str, "_Clip | str"]]:
        """(file, clip or reason) in order, with at most `ahead` files in flight."""
        waiting: deque[tuple[str, Future[_Clip | str]]] = deque()
        try:
            for path in paths:
                waiting.append((os.fspath(path), pool.submit(self._decode_or_reason, Path(path), time_limit)))
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
