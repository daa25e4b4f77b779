"""`Predictor`: names the actions in videos. It works on any `ClipModel`: a bundle, a run or a model in memory.

file → frames uint8 (T, S, S, 3) → video feature (D,) → cosines with class features (C, D) →
softmax or sigmoid → ranking.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from ga2clip.choices import ScoringRule
from ga2clip.descriptions import described_classes
from ga2clip.errors import UserError
from ga2clip.labels import comparable
from ga2clip.predictions import Failure, Prediction
from ga2clip.runtime.arguments import (
    at_least_one,
    flag,
    float_features,
    prepared_clips,
    prepared_frames,
    rgb_frames,
    seconds,
    video_path,
    video_paths,
)
from ga2clip.runtime.batches import answer_files, encode_each, predictions
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.calibration import Choice
from ga2clip.runtime.decode import Clip, decoder
from ga2clip.runtime.explain import explain as explain_labels
from ga2clip.runtime.learn import Paths, shown_by, taught_model
from ga2clip.runtime.model import ClipModel, Encoded, check_model
from ga2clip.runtime.question import Questions, class_features
from ga2clip.runtime.scoring import Scorer
from ga2clip.runtime.still import StillFrames, still_bound
from ga2clip.video import SamplingRule

Classes = Iterable[str] | Mapping[str, Sequence[str]]
"""Class names, or class names with sentences that describe them."""


class _Closed:
    """Replaces the model of a closed predictor: any use of it raises UserError."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UserError("this predictor is closed", "open the model again")


class Predictor:
    """Names the actions in videos. Use it in a `with` statement or call `close`. Safe to use from several threads.

    Args:
        model: the folder of a bundle (no torch needed) or any `ClipModel`. `ga2clip.open_predictor` also opens runs
            and backbones.
        classes: the class names to rank when a call gives none, or a mapping of names to lists of sentences that
            describe them; None: the model's own.
        provider: bundles only: `auto` (CUDA if a driver is installed, else the CPU), `cpu`, `cuda`, `cuda:N`,
            `tensorrt` or `openvino`. The attribute `provider` is the one that was obtained.
        threads: bundles only: CPU cores that each encoder may use; 0: all.
        cache: bundles only: keep the features of class names on disk, and which large files were whole.
        signed_by: bundles only: a PEM file with the Ed25519 public key that must have signed the bundle.

    Raises:
        UserError: the bundle is missing, damaged, of a newer schema or not signed by that key; or class names are
            empty or can't be told apart.

    Example:
        >>> with Predictor("bundle") as predictor:
        ...     predictor.predict("clip.mp4", top=5).predictions
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ClipModel,
        *,
        classes: Classes | None = None,
        provider: str = "auto",
        threads: int = 0,
        cache: bool = True,
        signed_by: str | os.PathLike[str] | None = None,
    ) -> None:
        own = None if classes is None else described_classes(classes)
        if not isinstance(model, str | os.PathLike):
            check_model(model)
        cache = flag("cache", cache)
        self.model: ClipModel = (
            BundleModel(Path(model), provider=provider, threads=threads, cache=cache, signed_by=signed_by)
            if isinstance(model, str | os.PathLike)
            else model
        )
        self._described = own or dict.fromkeys(self.model.classes, ())
        self.classes = tuple(self._described)
        """The class names that are ranked when a call gives none."""
        self._questions = Questions(self.model)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the model and its memory. Later calls raise UserError; closing twice is allowed."""
        if not isinstance(self.model, _Closed):
            gone: Any = _Closed()
            model, self.model, self._questions = self.model, gone, Questions(gone)
            model.close()

    @property
    def name(self) -> str:
        """A readable name of the model."""
        return self.model.name

    @property
    def provider(self) -> str:
        """Where it computes: `cpu`, `cuda`, `torch on cpu` …"""
        return self.model.provider

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hexadecimal digits, of everything in the model that influences an answer."""
        return self.model.fingerprint

    @property
    def scoring(self) -> ScoringRule:
        """`softmax`: the probabilities of an answer sum to 1 over all classes. `sigmoid`: each class has its own."""
        return self.model.scoring

    @property
    def independent_frames(self) -> bool:
        """Whether a frame has the same features in every clip; if not, they depend on its neighbours, too."""
        return self.model.independent_frames

    def predict(
        self,
        path: str | os.PathLike[str],
        classes: Classes | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
        choice: Choice | None = None,
        explain: bool = False,
    ) -> Prediction:
        """Rank the classes for a video file.

        Args:
            path: the file.
            classes: names to choose from, or a mapping of names to lists of sentences that describe them, whose
                features are averaged (an empty list: the name alone); None: `Predictor.classes`.
            top: the number of classes in the answer.
            template: a sentence with `{}` for the name, instead of the model's class text.
            reject: let "none of these" take part, by the model's open-set threshold.
            choice: `MultiLabel()` asks for each class by itself, `Coverage(0.9)` for a set of classes that holds the
                true one with that probability; the answer is `Prediction.chosen`.
            explain: also say which frames carried the answer, in `Prediction.explanation`. Clips are then encoded one
                by one.

        Returns:
            The ranking, best first, with the number of frames, the duration and the decoder's warnings. The
            probabilities are a softmax over all classes, also those below `top`; with a backbone that is scored by
            a sigmoid (`Predictor.scoring`), each class has its own and they need not sum to 1.

        Raises:
            VideoError: the file can't be decoded.
            UserError: class names that are empty or can't be told apart, `top` below 1, a template without `{}`,
                `reject` with a model that has no threshold, or `choice` with one that has no calibration.

        Example:
            >>> predictor.predict("clip.mp4", classes=["juggling", "sleeping"], top=1).predictions
            (('juggling', 0.93),)
        """
        file, top = video_path(path), at_least_one("top", top)
        scorer = self.scorer(classes, template, reject, choice)
        return self._answers([(file, self._decoder()(file))], scorer, top, flag("explain", explain))[0]

    def predict_frames(
        self,
        frames: np.ndarray,
        classes: Classes | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
        choice: Choice | None = None,
        explain: bool = False,
    ) -> Prediction:
        """Rank the classes for frames in memory. All frames are encoded, none is left out.

        Args:
            frames: uint8 (T, H, W, 3), RGB, of any T ≥ 1, H and W.
            classes, top, template, reject, choice, explain: as in `predict`.

        Returns:
            As `predict`, with an empty file name and a duration of 0.

        Raises:
            UserError: as `predict`, and for frames of another dtype or shape.
        """
        clip, top = Clip(self.prepare(frames), 0.0, ()), at_least_one("top", top)
        scorer = self.scorer(classes, template, reject, choice)
        return self._answers([("", clip)], scorer, top, flag("explain", explain))[0]

    def predict_many(
        self,
        paths: Iterable[str | os.PathLike[str]],
        classes: Classes | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
        choice: Choice | None = None,
        explain: bool = False,
        *,
        batch: int = 4,
        workers: int = 1,
        time_limit: float = 60.0,
    ) -> Iterator[Prediction | Failure]:
        """Rank the classes for many video files; the next files are decoded in threads meanwhile.

        Args:
            paths: the files. An iterator is consumed only a few files ahead.
            classes, top, template, reject, choice, explain: as in `predict`.
            batch: number of clips that are encoded at once.
            workers: number of decoding threads.
            time_limit: seconds that decoding one file may take.

        Returns:
            An iterator with one answer per path, in the order of the paths: a `Prediction`, or a `Failure` for a file
            that can't be read.

        Raises:
            UserError: as `predict`, and for numbers out of range; raised by the call itself, not by the iterator.
        """
        files, top = video_paths(paths), at_least_one("top", top)
        batch, workers = at_least_one("batch", batch), at_least_one("workers", workers)
        limit = seconds("time_limit", time_limit)
        scorer = self.scorer(classes, template, reject, choice)
        answer = partial(self._answers, scorer=scorer, top=top, explain=flag("explain", explain))
        return answer_files(files, self._decoder(limit), answer, batch=batch, workers=workers)

    def scorer(
        self,
        classes: Classes | None = None,
        template: str | None = None,
        reject: bool = False,
        choice: Choice | None = None,
    ) -> Scorer:
        """Encode the classes of a question once, to score many videos against them.

        Args:
            classes, template, reject, choice: as in `predict`.

        Returns:
            The labels, their features float32 (C, D) and the scoring rule.

        Raises:
            UserError: as `predict`.
        """
        described = self._described if classes is None else described_classes(classes)
        return self._questions.scorer(described, template, reject, choice)

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        """Resize and crop frames to the encoder's side S, as all predictions do.

        Args:
            frames: uint8 (T, H, W, 3), RGB, of any T ≥ 1, H and W.

        Returns:
            uint8 (T, S, S, 3).

        Raises:
            UserError: frames of another dtype or shape.
        """
        return self.model.preprocess.frames(rgb_frames(frames))

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames, one by one if they are independent (`independent_frames`), else together as one clip.

        Args:
            frames: uint8 (T, S, S, 3), as `prepare` returns them, in the order of time.

        Returns:
            Frame features, float32 (T, D), not normalised.

        Raises:
            UserError: another type or shape.
        """
        return self.model.encode_frames(prepared_frames(frames, self.model.preprocess.size))

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """Encode clips.

        Args:
            clips: uint8 (B, T, S, S, 3), frames as `prepare` returns them.

        Returns:
            Video features, float32 (B, D), not normalised: the pooled frame features, as `pool` has them.

        Raises:
            UserError: another type or shape.
        """
        return self.model.encode_clips(prepared_clips(clips, self.model.preprocess.size))

    def encode_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        frames: bool = False,
        still: float = 0.0,
        workers: int = 1,
        time_limit: float = 60.0,
    ) -> Iterator[Encoded | Failure]:
        """Encode video files one by one, so that no feature depends on the other files.

        Args:
            paths: the files. An iterator is consumed only a few files ahead.
            frames: also give the features of the sampled frames; the video feature is what `pool` makes of those.
            still: with `frames`, a frame whose pixels (of 255) moved less than this since the last encoded one, in
                every block of 8 × 8, keeps its features; 0: encode all frames.
            workers: number of decoding threads.
            time_limit: seconds that decoding one file may take.

        Returns:
            An iterator with one result per path, in the order of the paths: its features, or a `Failure` for a file
            that can't be read.

        Raises:
            UserError: numbers out of range, or `still` with a model whose frames are not independent; raised by the
                call itself, not by the iterator.
        """
        files, workers = video_paths(paths), at_least_one("workers", workers)
        encode = partial(self._encoded, frames=flag("frames", frames), still=still_bound(self.model, still))
        return encode_each(files, self._decoder(seconds("time_limit", time_limit)), encode, workers=workers)

    def teach(
        self,
        examples: Mapping[str, Paths] | None = None,
        against: Mapping[str, Paths] | None = None,
        *,
        workers: int = 1,
    ) -> "Predictor":
        """Add or improve classes from example clips, without training.

        Args:
            examples: class name → its clips, one or more video files. Names that the model does not have become
                classes. The clips of "none of these" show none of the classes.
            against: class name → clips that look like the class but are not.
            workers: number of decoding threads.

        Returns:
            A predictor over the old and the taught classes, which shares this one's encoders: close this one last.
            This one is unchanged. `ga2clip.teach` writes a bundle instead.

        Raises:
            UserError: a name that can't be told from another, a clip with two classes, or a class none of whose clips
                can be read.

        Example:
            >>> taught = predictor.teach({"juggling": ["a.mp4", "b.mp4"]})
            >>> taught.predict("c.mp4").predictions[0]

        Source: `ga2clip/runtime/teaching.py` states the rule.
        """
        encode = partial(self.encode_files, workers=workers)
        model = taught_model(self.model, encode, shown_by(examples or {}, against or {}))
        taught = Predictor(model)
        known = set(map(comparable, (*self.model.classes, *self._described)))
        new = {name: () for name in model.classes if comparable(name) not in known}
        taught._described = {**self._described, **new}
        taught.classes = tuple(taught._described)
        return taught

    def pool(self, features: np.ndarray) -> np.ndarray:
        """Make video features of frame features: their mean, or what the model's temporal pooling makes of them.

        Args:
            features: float32 (B, T, D), as `encode_frames` returns them, in the order of time and evenly spaced; of any
                B and T ≥ 1.

        Returns:
            Video features, float32 (B, D), not normalised.

        Raises:
            UserError: another type or shape.
        """
        return self.model.pool(float_features(features))

    def encode_classes(self, names: Classes, template: str | None = None) -> np.ndarray:
        """Encode class names.

        Args:
            names: C class names, or a mapping of names to lists of sentences that describe them.
            template: a sentence with `{}` for the name, instead of the model's class text.

        Returns:
            Class features, float32 (C, D), L2-normalised.

        Raises:
            UserError: names that can't be told apart or are too long; a template that is not a string with one `{}`,
                or beside sentences, which take its place.
        """
        return class_features(self.model, described_classes(names), template)

    def _decoder(self, time_limit: float | None = None) -> Callable[[str], Clip]:
        return decoder(self.model.preprocess, SamplingRule(frames=self.model.frames), time_limit)

    def _answers(
        self, clips: Sequence[tuple[str, Clip]], scorer: Scorer, top: int, explain: bool
    ) -> list[Prediction]:
        if explain:
            return [self._explained(file, clip, scorer, top) for file, clip in clips]
        return predictions(
            clips, self.encode_clips(np.stack([clip.frames for _, clip in clips])), scorer, top
        )

    def _explained(self, file: str, clip: Clip, scorer: Scorer, top: int) -> Prediction:
        features = self.encode_frames(clip.frames)
        [answer] = predictions([(file, clip)], self.pool(features[None]), scorer, top)
        times = clip.times.tolist() or range(len(features))
        found = explain_labels(scorer, features, self.pool, [label for label, _ in answer.predictions], times)
        return replace(answer, explanation=replace(found, frames=clip.frames))

    def _encoded(self, file: str, clip: Clip, frames: bool, still: float) -> Encoded:
        if not frames:
            return Encoded(file, self.encode_clips(clip.frames[None])[0], None, clip.times)
        encoder = StillFrames(self.encode_frames, still)
        own = encoder.encode(clip.frames)
        return Encoded(file, self.pool(own[None])[0], own, clip.times, encoder.reused)
