"""A model under protocols, as reports: base, novel, harmonic mean, or the accuracy over all classes.

Every clip is decoded and encoded once, whatever the number of test sets, splits and protocols that contain it.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import ClipFeatures, encode_clips
from ga2clip.compute.precision import autocast, autocast_dtype
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import EvalSet, make_task
from ga2clip.descriptions import ClassTexts, said
from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.evaluation.metrics import BROKEN, TOP, rank_classes, score
from ga2clip.evaluation.reliability import Reliability
from ga2clip.evaluation.report import Report, SetReport
from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.model.scoring import class_probabilities
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.learn import taught_by_training
from ga2clip.runtime.question import Questions
from ga2clip.runtime.teaching import Examples
from ga2clip.settings import Settings
from ga2clip.text import printable, some

_log = logging.getLogger(__name__)

ALL_CLASSES = "all-classes"
"""The name of the measurement of a run on all classes of its dataset, which is no protocol to train under."""


def evaluate_model(
    model: VideoCLIP,
    settings: Settings,
    protocols: Sequence[str],
    group: Group,
    manifest: Manifest,
    examples: Examples | None = None,
    *,
    about: dict[str, Any] | None = None,
    bar: bool = False,
) -> list[Report]:
    """Reports of a model on a dataset, one per protocol; the classes are those of the manifest.

    examples: clips that the model's classes were learned from, see `Run.examples`.
    """
    wanted = [protocol_sets(manifest, settings, name) for name in protocols]
    _warn_of_undescribed(settings, [part.classes for _, parts in wanted for _, part in parts])
    model.eval()
    # Clips that `prepare` could not decode are not tried again: they might hang or crash this process.
    known = manifest.broken
    clips = [clip for _, parts in wanted for _, part in parts for clip in part.clips]
    encoded = encode_clips(model, [clip for clip in clips if clip.id not in known], settings, group, bar=bar)
    encoded.broken.update({clip.id: known[clip.id] for clip in clips if clip.id in known})
    for name, reason in encoded.broken.items():
        _log.warning("%s counts as wrong: %s", printable(name), reason)
    rule_of_scores = _rule(model, settings, group, examples)
    data = settings.data
    about = (about or {}) | {
        "backbone": model.backbone.name,
        "template": model.class_template,
        "views": f"{data.test_clips}x{data.test_crops}",
        "frames": data.frames,
        "class_names": data.class_names,
        "descriptions": said(settings.descriptions) if settings.descriptions else "none",
    }
    if examples is not None:
        about["examples"] = len(examples.items)
    return [
        Report(
            protocol=name,
            rule=rule,
            sets=tuple(
                score_set(rule_of_scores, part, encoded, settings.data.frames, split) for split, part in parts
            ),
            about=about,
        )
        for (name, rule), parts in wanted
    ]


def _warn_of_undescribed(settings: Settings, classes: Sequence[Sequence[str]]) -> None:
    """Say which tested classes are described by their names alone, where others have descriptions."""
    tested = list(dict.fromkeys(name for part in classes for name in part))
    missing = ClassTexts(settings.descriptions).missing(tested) if settings.descriptions else []
    if missing:
        _log.warning(
            "%d of %d tested classes have no description, and are told by their names: %s",
            len(missing),
            len(tested),
            some(missing),
        )


_Sets = list[tuple[int, EvalSet]]


def protocol_sets(manifest: Manifest, settings: Settings, protocol: str) -> tuple[tuple[str, str], _Sets]:
    """(name, rule) of a protocol and its test sets with their split; zero-shot is tested on every official split."""
    several = protocol == "zero-shot" and not (settings.data.split_file or settings.data.test_split_file)
    splits = range(1, manifest.splits + 1) if several else [settings.data.split]
    parts: _Sets = []
    rule = ""
    # To test all classes, no training clip needs to be there.
    tested = "zero-shot" if protocol == ALL_CLASSES else protocol
    for split in splits:
        data = settings.updated({"data": {"protocol": tested, "split": split}}, "the protocol").data
        task = make_task(manifest, data, settings.training.seed)
        rule = rule or task.rule
        parts += [(split, part) for part in task.evals]
    return (protocol, rule), parts


Rule = Callable[[Tensor, Sequence[str]], NDArray[np.float64]]
"""Features (N, D) of videos and C class names → probabilities (N, C)."""


def _rule(model: VideoCLIP, settings: Settings, group: Group, examples: Examples | None) -> Rule:
    """By cosines with the class texts, or by what the examples taught, as the runtime answers with them."""
    if examples is not None:
        torch_model = TorchModel(model, settings.method.name, device=str(group.device))
        questions = Questions(taught_by_training(torch_model, examples))

        def by_examples(videos: Tensor, names: Sequence[str]) -> NDArray[np.float64]:
            scorer = questions.scorer(dict.fromkeys(names, ()), None, reject=False, choice=None)
            return scorer.probabilities(videos.numpy())

        return by_examples
    dtype = autocast_dtype(settings.training.precision, group.device, model.backbone.vision.width)

    @torch.no_grad()
    def by_cosines(videos: Tensor, names: Sequence[str]) -> NDArray[np.float64]:
        with autocast(group.device, dtype):
            classes = model.encode_classes(list(names))
            model.check_classes(names)
        logits = model.logits(videos.to(group.device), classes.float())
        return class_probabilities(logits, model.backbone.scoring).cpu().numpy()

    return by_cosines


def score_set(rule: Rule, part: EvalSet, encoded: ClipFeatures, frames: int, split: int) -> SetReport:
    """Classify a test set's clips among its own classes; views are averaged as probabilities.

    frames: how many are taken from a clip.
    """
    number = {name: index for index, name in enumerate(part.classes)}
    labels = np.array([number[str(clip.label)] for clip in part.clips], dtype=np.int64)
    ranked = np.full((len(part.clips), min(TOP, len(part.classes))), BROKEN, dtype=np.int64)
    scores = np.zeros(ranked.shape)
    everything = np.zeros((0, len(part.classes)))
    whole = [index for index, clip in enumerate(part.clips) if clip.id in encoded.features]
    if whole:
        views = torch.stack([encoded.features[part.clips[index].id] for index in whole])
        probabilities = rule(views.flatten(0, 1), part.classes)
        everything = probabilities.reshape(*views.shape[:2], -1).mean(axis=1)
        ranked[whole] = rank_classes(everything)
        scores[whole] = np.take_along_axis(everything, ranked[whole], axis=1)
    broken = tuple((clip.id, encoded.broken[clip.id]) for clip in part.clips if clip.id in encoded.broken)
    answers = tuple(
        ClipAnswer(
            file=clip.id,
            label=str(clip.label),
            frames=clip.frames,
            answers=tuple(
                (part.classes[number], float(chance))
                for number, chance in zip(numbers, row, strict=True)
                if number != BROKEN
            ),
            warnings=_warning(clip, encoded, frames),
        )
        for clip, numbers, row in zip(part.clips, ranked, scores, strict=True)
    )
    return SetReport(
        part.name,
        part.classes,
        score(ranked, labels, len(part.classes)),
        broken,
        split,
        answers,
        Reliability.of(everything, labels[whole]),
    )


def _warning(clip: Clip, encoded: ClipFeatures, frames: int) -> str:
    """Why a clip could not be read, or that it is shorter than what is taken from it."""
    if clip.id in encoded.broken:
        return encoded.broken[clip.id]
    if 0 < clip.frames < frames:
        return f"has {clip.frames} frames, of which {frames} were taken"
    return ""
