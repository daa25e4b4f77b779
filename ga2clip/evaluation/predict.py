"""A run or a backbone, and videos, go in; rankings of class names come out: `TorchPredictor`.

The same front door as the runtime's `Predictor`, for models that were not exported; frames are sampled, resized
and scored in the same way, so both give the same probabilities.
"""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ga2clip.errors import UserError, unknown_name
from ga2clip.labels import check_class_names
from ga2clip.model.load_backbone import BUILTIN, load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.predictions import Failure, Prediction, rank
from ga2clip.run import load_run
from ga2clip.settings import Settings
from ga2clip.video import SamplingRule, sample_frames

_log = logging.getLogger(__name__)
_DEVICES = ("auto", "cpu", "cuda")


class _Clip(NamedTuple):
    file: str
    frames: npt.NDArray[np.uint8]
    """(T, S, S, 3), resized and cropped."""
    duration: float
    warnings: tuple[str, ...]


class TorchPredictor:
    """Names actions in videos with a model in torch; made by `from_run` or `zero_shot`.

    device: `auto` (CUDA where there is one), `cpu` or `cuda`. threads: cores for torch, 0: its own choice.
    """

    def __init__(self, model: VideoCLIP, source: str, *, device: str = "auto", threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.model = model.eval().to(_device(device))
        self.provider = f"torch on {self.model.device}"
        self.name = f"{model.settings.method.name} on {model.backbone.name} ({source})"
        self._rule = SamplingRule(frames=model.settings.data.frames)

    @classmethod
    def from_run(cls, path: Path, *, device: str = "auto", threads: int = 0) -> "TorchPredictor":
        """The tuned model of a run. Errors: UserError as `load_run`."""
        return cls(load_run(path).model(), str(path), device=device, threads=threads)

    @classmethod
    def zero_shot(
        cls,
        backbone: str,
        weights: str | None,
        classes: Sequence[str],
        *,
        device: str = "auto",
        threads: int = 0,
    ) -> "TorchPredictor":
        """A backbone as it is, asked about `classes`.

        weights: an open_clip tag or a file; None: those built in, or OpenAI's. Errors: UserError as `load_backbone`.
        """
        pretrained = weights or ("builtin" if backbone == BUILTIN else "openai")
        tree = method_settings("zero-shot") | {"backbone": {"name": backbone, "pretrained": pretrained}}
        settings = Settings().updated(tree, "zero-shot")
        model = build_model(load_backbone(settings.backbone), settings, classes)
        return cls(model, pretrained, device=device, threads=threads)

    def __enter__(self) -> "TorchPredictor":
        return self

    def __exit__(self, *_: object) -> None:
        del self.model

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are ranked when none are given."""
        return tuple(self.model.classes)

    def predict(
        self,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        top: int = 5,
        template: str | None = None,
        reject: bool = False,
    ) -> Prediction:
        """The `top` most probable classes of a video file.

        classes: names to choose from, None: the model's own. template: a sentence with `{}` in place of the
        model's class text. Errors: VideoError for a file that can't be decoded, UserError for class names or a
        template that can't be used, and for `reject`, whose threshold is fitted by export.
        """
        names, features = self._encode_classes(classes, template, reject)
        return self._answers([self._decode(path, 60.0)], names, features, top)[0]

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
        """Predictions in the order of the paths; a file that can't be read gives a Failure, the rest goes on.

        batch: clips encoded at once. workers: threads that decode them. time_limit: seconds for decoding a file.
        """
        names, features = self._encode_classes(classes, template, reject)
        waiting = iter(paths)
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            while part := list(itertools.islice(waiting, batch)):
                clips = list(pool.map(lambda path: self._decode_or_fail(path, time_limit), part))
                good = [clip for clip in clips if isinstance(clip, _Clip)]
                answers = iter(self._answers(good, names, features, top))
                yield from (clip if isinstance(clip, Failure) else next(answers) for clip in clips)

    @torch.inference_mode()
    def _encode_classes(
        self, classes: Sequence[str] | None, template: str | None, reject: bool
    ) -> tuple[tuple[str, ...], Tensor]:
        """Names and their features (C, D)."""
        if reject:
            raise UserError(
                "--reject needs a bundle: export fits its threshold", "`ga2clip export RUN` makes one"
            )
        names = self.classes if classes is None else tuple(classes)
        check_class_names(names)
        if template is None:
            return names, self.model.encode_classes(names)
        return names, self.model.encode_tokens(self.model.class_tokens(names, template))

    def _decode(self, path: str | os.PathLike[str], time_limit: float) -> _Clip:
        pixels = self.model.preprocess
        clip = sample_frames(path, self._rule, size=pixels.size, time_limit=time_limit)
        return _Clip(os.fspath(path), pixels.frames(clip.frames), clip.info.duration, clip.warnings)

    def _decode_or_fail(self, path: str | os.PathLike[str], time_limit: float) -> _Clip | Failure:
        try:
            return self._decode(path, time_limit)
        except UserError as error:
            return Failure(os.fspath(path), error.message)
        except Exception as error:  # one file must not end a batch
            _log.debug("reading %s failed", path, exc_info=True)
            return Failure(os.fspath(path), f"{type(error).__name__}: {error}")

    @torch.inference_mode()
    def _answers(
        self, clips: Sequence[_Clip], names: tuple[str, ...], features: Tensor, top: int
    ) -> list[Prediction]:
        if not clips:
            return []
        pixels = self.model.preprocess.normalise(np.stack([clip.frames for clip in clips]))
        video = self.model.encode_video(torch.from_numpy(pixels).to(self.model.device))
        rows = self.model.logits(video, features).double().softmax(dim=-1).tolist()
        return [
            Prediction(clip.file, len(clip.frames), clip.duration, rank(names, row, top), clip.warnings)
            for clip, row in zip(clips, rows, strict=True)
        ]


def _device(name: str) -> torch.device:
    if name not in _DEVICES:
        raise unknown_name("device", name, _DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device that torch can use", "take --provider cpu")
    return torch.device(
        "cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu")
    )
