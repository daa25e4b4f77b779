"""A run or a backbone as a `ClipModel` of the runtime, computed in torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from ga2clip.compute.distributed import choose_device
from ga2clip.labels import fill
from ga2clip.model.frozen_text import unknown_class_words
from ga2clip.model.load_backbone import default_weights, load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.run import load_run
from ga2clip.runtime import is_bundle, open_bundle
from ga2clip.runtime.arguments import thread_count
from ga2clip.runtime.bundle import Probe
from ga2clip.runtime.calibration_card import CalibrationCard
from ga2clip.runtime.card import BundleCard
from ga2clip.runtime.learn import taught_by_training
from ga2clip.runtime.model import ClipModel
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.taught_calibration import TaughtProbabilities
from ga2clip.runtime.teaching import Example, Examples, Head
from ga2clip.settings import Settings

_SAME_MODEL = 0.9999  # cosine of features that torch gave before and gives now, perhaps on another device


class TorchModel:
    """A `VideoCLIP` with the members of `ClipModel`, in float32.

    Args:
        model: moved to the device and put into evaluation mode.
        source: where it is from, for messages.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.
        threads: CPU cores that torch uses; 0: its own choice.
        exported: the path of the bundle that `export` writes for the model, from which the threshold is read.
    """

    def __init__(
        self,
        model: VideoCLIP,
        source: str,
        *,
        device: str = "auto",
        threads: int = 0,
        exported: Path | None = None,
    ) -> None:
        self._model = model.eval().to(choose_device(device))
        with torch.inference_mode():
            self._prompts = self._model.prompts()
        if threads := thread_count(threads):
            torch.set_num_threads(threads)
        self._exported = exported
        self.provider = f"torch on {self._model.device}"
        self.name = f"{model.settings.method.name} on {model.backbone.name} ({source})"
        self.classes = tuple(model.classes)
        self.preprocess = model.preprocess
        self.frames, self.independent_frames = model.settings.data.frames, model.independent_frames
        self.scale, self.scoring = float(model.scale.detach()), model.backbone.scoring
        self.logit_bias = model.backbone.bias
        self.negatives = normalise(_array(model.negatives))
        self.taught: Head | None = None  # `Predictor.teach` wraps the model

    @cached_property
    def fingerprint(self) -> str:
        """As `ClipModel`: SHA-256 of all weights, the frames of a clip, class text and descriptions, and what weights
        don't show.
        """
        recipe = [self.frames, self._model.class_template, self._model.backbone.conventions()]
        if not self.independent_frames:
            recipe.append("frames attend to their neighbours")  # which no weight shows
        if described := self._model.settings.descriptions:
            recipe.append(json.dumps(described))
        digest = hashlib.sha256(json.dumps(recipe).encode())
        for name, value in sorted(self._model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @cached_property
    def threshold(self) -> float | None:
        """As `ClipModel`: the threshold of the exported bundle, if the bundle was made from this very model."""
        rule = self._card.reject if self._card else None
        return rule.threshold if rule else None

    @cached_property
    def calibration(self) -> CalibrationCard | None:
        """As `ClipModel`: that of the exported bundle, if the bundle was made from this very model."""
        return self._card.calibration if self._card else None

    def fitted_to(self, examples: Examples) -> TaughtProbabilities | None:
        """What the exported bundle has fitted to these training clips; None where it was not made of them."""
        taught = self._card.taught if self._card else None
        known = () if taught is None else tuple(Example(e.label, e.kind, e.sha256) for e in taught.examples)
        return TaughtProbabilities.of(taught) if taught and known == examples.items else None

    @cached_property
    def _card(self) -> BundleCard | None:
        """The card of the exported bundle, if the bundle was made from this very model."""
        if self._exported is None or not is_bundle(self._exported):
            return None
        bundle = open_bundle(self._exported)
        probe = bundle.probe()
        if probe.frames.shape[2:4] != (self.preprocess.size, self.preprocess.size):
            return None
        known, own = normalise(probe.frame_features[0]), normalise(self.encode_frames(probe.frames[0]))
        same = _alike(known, own) and self._pools_as(probe)
        return bundle.card if same and _close(bundle.text_bank().negatives, self.negatives) else None

    def _pools_as(self, probe: Probe) -> bool:
        if probe.video_features is None or not self._model.pools:
            return probe.video_features is None and not self._model.pools
        return _alike(normalise(probe.video_features), normalise(self.pool(probe.frame_features)))

    @torch.inference_mode()
    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        return _array(self._model.encode_frames(self._pixels(frames[None]), self._prompts)[0])

    @torch.inference_mode()
    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        return _array(self._model.encode_video(self._pixels(clips), self._prompts))

    @torch.inference_mode()
    def pool(self, features: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        return _array(self._model.pool(torch.from_numpy(features).to(self._model.device)))

    @torch.inference_mode()
    def encode_classes(
        self,
        names: Sequence[str],
        template: str | None = None,
        sentences: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> np.ndarray:
        """As `ClipModel`."""
        if template is not None:
            texts: Mapping[str, Sequence[str]] = {name: [fill(template, name)] for name in names}
            features = normalise(_array(self._model.encode_texts(texts, self._prompts)))
            self._model.class_tokens(names, template)  # refuses names that the tokenizer can't tell apart
            return features
        own = [name for name in names if name not in sentences]
        self._model.check_classes(own)
        rows = dict(zip(own, self._model.encode_classes(own, self._prompts), strict=True)) if own else {}
        if sentences:
            described = self._model.encode_texts(sentences, self._prompts)
            rows |= dict(zip(sentences, described, strict=True))
        return normalise(_array(torch.stack([rows[name] for name in names])))

    def unknown_words(self, names: Sequence[str]) -> list[str]:
        """As `ClipModel`."""
        return unknown_class_words(self._model.backbone, names)

    def close(self) -> None:
        """Release the weights."""
        del self._model, self._prompts

    def _pixels(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(self.preprocess.normalise(frames)).to(self._model.device)


def model_of_run(path: Path, *, device: str = "auto", threads: int = 0) -> ClipModel:
    """The tuned model of a run, taught by its training clips if it was. Raises UserError as `load_run`."""
    own, examples = load_run(path).model_and_examples()
    model = TorchModel(own, str(path), device=device, threads=threads, exported=path / "bundle")
    return model if examples is None else taught_by_training(model, examples, model.fitted_to(examples))


def zero_shot_model(
    backbone: str, weights: str | None, classes: Sequence[str], *, device: str = "auto", threads: int = 0
) -> TorchModel:
    """An untuned backbone with the given classes.

    weights: an open_clip tag or a file; None: `default_weights`. Raises UserError as `load_backbone`.
    """
    pretrained = weights or default_weights(backbone)
    tree = method_settings("zero-shot") | {"backbone": {"name": backbone, "pretrained": pretrained}}
    settings = Settings().updated(tree, "zero-shot")
    model = build_model(load_backbone(settings.backbone), settings, classes)
    return TorchModel(model, pretrained, device=device, threads=threads)


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether features (…, D), L2-normalised, can be from one model."""
    return a.shape == b.shape and float((a * b).sum(axis=-1).min()) >= _SAME_MODEL


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1e-4))


def _array(features: Tensor) -> np.ndarray:
    return features.detach().float().cpu().numpy()
