"""A bundle as a `ClipModel`: its encoders in ONNX Runtime or OpenVINO, without torch."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ga2clip.choices import is_gpu
from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime.bundle import Bundle, open_bundle
from ga2clip.runtime.card import CARD, POOLING, PROVIDER_LIMIT, VIDEO_ENCODER
from ga2clip.runtime.engine import Engine, check_provider
from ga2clip.runtime.scoring import mean_over_frames
from ga2clip.runtime.taught_calibration import TaughtProbabilities
from ga2clip.runtime.teaching import Head
from ga2clip.runtime.text import ClassEncoder
from ga2clip.video import Preprocess

_log = logging.getLogger(__name__)


class BundleModel:
    """The model of a bundle; members as `ClipModel` has them.

    Args:
        path: the bundle's folder.
        provider: one of `choices.PROVIDERS` or `cuda:N`; the attribute `provider` says which one was obtained.
        threads: CPU cores that each encoder may use; 0: all.
        cache: remember the features of class names, and which large files were whole, on disk.
        signed_by: a PEM file with the Ed25519 public key that must have signed the bundle.
        wait: until the video encoder is loaded; see `engine.open_engine`.

    Raises:
        UserError: the bundle is missing, damaged, of a newer schema or not signed by that key, or the provider
            computes wrongly.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str = "auto",
        threads: int = 0,
        cache: bool = True,
        signed_by: str | os.PathLike[str] | None = None,
        wait: bool = True,
    ) -> None:
        self.bundle: Bundle = open_bundle(path, signed_by=signed_by, remember=cache)
        card = self.card = self.bundle.card
        self._engine: Engine = self.bundle.engine(VIDEO_ENCODER, provider, threads=threads, wait=wait)
        self.provider = self._engine.provider
        if self.provider != "cpu":
            probe, limit = self.bundle.probe(), PROVIDER_LIMIT[card.precision]
            check_provider(
                self._engine, "frames", probe.frames, "frame_features", probe.frame_features, limit
            )
        # Float and small: on the CPU it takes less time than a frame, and gives the same with every provider.
        self._pooling = (
            self.bundle.engine(POOLING, "cpu", threads=threads) if card.pooling == "graph" else None
        )
        if provider not in ("auto", self.provider):
            _log.warning("asked for the provider '%s', got '%s'", provider, self.provider)
        if card.precision == "int8" and is_gpu(self.provider):
            _log.warning("int8 bundles are made for CPUs; on a GPU export with --precision fp16")
        # TensorRT would build a new engine for every text length.
        text_provider = "cpu" if self.provider == "tensorrt" else self.provider
        self._text = ClassEncoder(self.bundle, provider=text_provider, threads=threads, cache=cache)
        self.fingerprint = file_sha256(path / CARD)
        """Of `bundle.json`, which holds the hashes of all other files."""
        self.name = f"{card.method} on {card.backbone.name} ({card.precision}), {path}"
        self.classes = card.classes
        self.preprocess = Preprocess(**card.preprocess.model_dump(exclude={"colour"}))
        self.frames, self.independent_frames = card.sampling.frames, card.independent_frames
        self.scale, self.scoring = card.scoring.scale, card.scoring.rule
        self.logit_bias = card.scoring.bias
        self.negatives = self._text.bank.negatives
        self.threshold = card.reject.threshold if card.reject else None
        self.calibration = card.calibration
        self.taught: Head | None = None
        if card.taught is not None and (examples := self.bundle.examples()) is not None:
            own = len(card.classes) - len(card.taught.added)
            bank = self._text.bank.features
            rule = card.taught
            fitted = TaughtProbabilities.of(rule)
            head = Head(card.classes, bank, examples, own, self.scale, self.threshold, unseen=rule.unseen)
            self.taught = fitted.applied_to(head)
            self.scale, self.calibration = fitted.scale, fitted.calibration
            self.threshold = self.taught.threshold

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """As `ClipModel`; for a static bundle, clips are padded by repeating the last frame.

        Raises:
            UserError: the frames of a static bundle are not independent, and these are not as many as it takes.
        """
        if not self.card.onnx.static or not self.independent_frames:
            return self._encode(frames[None])["frame_features"][0]
        length = self.frames
        filled = np.concatenate([frames, np.repeat(frames[-1:], -len(frames) % length, axis=0)])
        clips = filled.reshape(-1, 1, length, *frames.shape[1:])
        return np.concatenate([self._encode(clip)["frame_features"][0] for clip in clips])[: len(frames)]

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """As `ClipModel`. An int8 bundle scales its activations over the whole input, so its clips are encoded one by
        one: the features of a clip must not depend on the other clips of the batch.

        Raises:
            UserError: a static bundle was exported for another T.
        """
        if not self.card.onnx.static and self.card.precision != "int8":
            return self._video_features(clips)
        return np.concatenate([self._video_features(clip[None]) for clip in clips])

    def pool(self, features: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        if self._pooling is None:
            return mean_over_frames(features)
        return self._run(self._pooling, {"frame_features": features})["video_features"]

    def encode_classes(
        self,
        names: Sequence[str],
        template: str | None = None,
        sentences: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> np.ndarray:
        """As `ClipModel`; names of the text bank keep their folded features unless a template or sentences are
        given.
        """
        return self._text.encode(names, template, sentences)

    def unknown_words(self, names: Sequence[str]) -> list[str]:
        """As `ClipModel`; names of the text bank are left out."""
        return self._text.unknown_words(names)

    def close(self) -> None:
        """Release the encoders."""
        del self._engine, self._pooling, self._text

    def _video_features(self, clips: np.ndarray) -> np.ndarray:
        outputs = self._encode(clips)
        return outputs["video_features"] if self._pooling is None else self.pool(outputs["frame_features"])

    def _encode(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        if self.card.onnx.static and clips.shape[1] != self.frames:
            raise UserError(
                f"{self.bundle.path} takes clips of {self.frames} frames, got {clips.shape[1]}",
                "it was exported with --static: export it without",
            )
        return self._run(self._engine, {"frames": clips})

    def _run(self, engine: Engine, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = engine.run(inputs)
        if not all(np.isfinite(output).all() for output in outputs.values()):
            name = "video encoder" if engine is self._engine else "pooling"
            raise UserError(
                f"{self.bundle.path}: the {name} gave numbers that are not finite",
                "export with --precision fp32"
                if self.card.precision != "fp32"
                else "export the bundle again",
            )
        return outputs
