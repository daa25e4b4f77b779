"""Evaluation of a run under a protocol: base, novel, harmonic mean, or the accuracy over all classes.

Every clip is decoded and encoded once, whatever the number of test sets, splits and protocols that contain it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ga2clip.compute.distributed import Group, join_group
from ga2clip.compute.features import ClipFeatures, encode_clips
from ga2clip.compute.precision import autocast, autocast_dtype
from ga2clip.data.class_names import RAW, READABLE, described_as_named, named
from ga2clip.data.lineage import Seen, fingerprint
from ga2clip.data.manifest import Clip, Manifest, dataset_root, read_dataset
from ga2clip.data.protocols import EvalSet, make_task
from ga2clip.descriptions import ClassTexts, read_descriptions, said
from ga2clip.errors import UserError
from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.evaluation.metrics import BROKEN, TOP, rank_classes, score
from ga2clip.evaluation.places import measurement_folder
from ga2clip.evaluation.reliability import Reliability
from ga2clip.evaluation.report import Measured, Report, SetReport
from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.files import file_sha256
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.scoring import class_probabilities
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.registry import DATASETS
from ga2clip.run import BACKBONE, PROMPTS, Run, load_run, runs_in
from ga2clip.runtime.learn import taught_by_training
from ga2clip.runtime.question import Questions
from ga2clip.runtime.teaching import Examples
from ga2clip.settings import DataSettings, Settings
from ga2clip.settings_reading import merge
from ga2clip.text import printable, some

_log = logging.getLogger(__name__)

ALL_CLASSES = "all-classes"
"""The name of the measurement of a run on all classes of its dataset, which is no protocol to train under."""


def evaluate_run(
    run_path: str | Path,
    *,
    protocol: str | None = None,
    dataset: str | None = None,
    root: str | Path | None = None,
    views: tuple[int, int] | None = None,
    class_names: str | None = None,
    descriptions: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    write: bool = False,
) -> Report:
    """Test a run under one protocol, by default the one it was trained under.

    Under torchrun the clips are divided among the processes; all of them return the same report.

    Args:
        run_path: the folder that training wrote.
        protocol: `base-to-novel`, `few-shot`, `zero-shot` or `full`; None: the run's own.
        dataset: test on another dataset than the run's, under `zero-shot` unless a protocol is given.
        root: the dataset's folder, if it has moved.
        views: (temporal clips, crops), crops 1 or 3, whose probabilities are averaged for each video; None: as in
            the run's settings.
        class_names: how the classes are named, a value of `data.class_names`; None: as in the run's settings.
        descriptions: a file of class descriptions, or `builtin` for those that come with the dataset; None: the run's.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show a progress bar on stderr.
        write: also write what `ga2clip eval` writes, `report.json`, `clips.csv`, `per_class.csv`, `confusion.png` and
            `reliability.png`,
            into `RUN/eval/` and the report's `folder`.

    Returns:
        The accuracies as fractions, by set of classes, and what they were measured on.

    Raises:
        UserError: the folder is not a run, or the dataset is not prepared or lacks the run's classes, or a file
            can't be written.

    Example:
        >>> print(evaluate("runs/ga2").table())
    """
    run = load_run(run_path)
    settings = _test_settings(run.settings, protocol, dataset, root, views, class_names, descriptions)
    manifest = _manifest(run, settings.data, class_names)
    return _evaluate(run, settings, manifest, [settings.data.protocol], device, progress, write)[0]


def evaluate_all(
    run_path: str | Path,
    *,
    dataset: str | None = None,
    root: str | Path | None = None,
    views: tuple[int, int] | None = None,
    class_names: str | None = None,
    descriptions: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    write: bool = False,
) -> list[Report]:
    """Test a run under every protocol of a dataset: the base classes and the novel classes among themselves, then all
    classes. Clips are encoded once. Arguments and errors as `evaluate_run`.

    On another dataset than the run's, all classes are tested zero-shot, on every official split; on the run's own on
    its split, as `all-classes`.
    """
    run = load_run(run_path)
    settings = _test_settings(run.settings, None, dataset, root, views, class_names, descriptions)
    manifest = _manifest(run, settings.data, class_names)
    protocols = ["base-to-novel", ALL_CLASSES if _is_own(run, settings, manifest) else "zero-shot"]
    return _evaluate(run, settings, manifest, protocols, device, progress, write)


def evaluate_runs(
    folders: Sequence[Path], *, protocol: str | None = None, write: bool = True, **where: Any
) -> Iterator[Measured]:
    """Test runs one after the other, each report beside the first run's under the same protocol.

    Args:
        folders: runs, or folders of runs.
        protocol: as `evaluate_run`, or `all`.
        write: as `evaluate_run`.
        where: further arguments of `evaluate_run`.

    Raises:
        UserError: as `evaluate_run`; what was measured and written before stays.
    """
    first: dict[str, Report] = {}
    for run in runs_in(folders):
        if protocol == "all":
            reports = evaluate_all(run, write=write, **where)
        else:
            reports = [evaluate_run(run, protocol=protocol, write=write, **where)]
        for report in reports:
            yield Measured(report, first.setdefault(report.protocol, report))


def _evaluate(
    run: Run,
    settings: Settings,
    manifest: Manifest,
    protocols: list[str],
    device: str,
    progress: bool,
    write: bool,
) -> list[Report]:
    folder = measurement_folder(run, settings, elsewhere=_is_elsewhere(run, settings, manifest))
    if settings.descriptions:
        readable = read_dataset(settings.data).classes
        table = described_as_named(settings.descriptions, manifest, readable)
        settings = settings.model_copy(update={"descriptions": table})
    about = {
        "run": str(run.path),
        "run_sha256": file_sha256(run.path / PROMPTS),
        "dataset": settings.data.dataset,
        "data_sha256": fingerprint(manifest),
        "method": settings.method.name,
        "seed": settings.training.seed,
    }
    _refuse_other_data(run, settings, manifest, protocols)
    with join_group(device) as group:
        model = run.model(group.device)
        model.class_texts = ClassTexts(settings.descriptions)
        bar = progress and group.is_first
        reports = evaluate_model(
            model, settings, protocols, group, manifest, run.examples(), about=about, bar=bar
        )
    reports = [replace(report, folder=folder.format(protocol=report.protocol)) for report in reports]
    if write and group.is_first:
        for report in reports:
            report.write(run.path / "eval" / report.folder)
    return reports


def evaluate_untuned(
    run: Run,
    *,
    protocol: str,
    dataset: str,
    views: tuple[int, int],
    class_names: str,
    root: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Report:
    """What the run's backbone reaches as it is, zero-shot, on the clips and class names of a measurement of the run.

    Raises:
        UserError: as `evaluate_run`; an imported run keeps its own tuned backbone alone.
    """
    if run.settings.backbone.pretrained == BACKBONE:
        raise UserError(f"{run.path} holds a tuned backbone: there is no untuned one to compare with")
    # Under its own protocol, whose clips `evaluate_model` chooses; all classes is no protocol of settings.
    settings = _test_settings(run.settings, None, dataset, root, views, class_names, None)
    tree = settings.model_dump(include={"data": True, "backbone": True, "training": {"seed", "precision"}})
    template = {"method": {"scenario_template": settings.method.scenario_template}}
    settings = Settings().updated(merge(merge(tree, template), method_settings("zero-shot")), "zero-shot")
    manifest = _manifest(
        run, settings.data, None if class_names == run.settings.data.class_names else class_names
    )
    with join_group(device) as group:
        model = build_model(load_backbone(settings.backbone), settings, run.classes).to(group.device)
        bar = progress and group.is_first
        return evaluate_model(model, settings, [protocol], group, manifest, bar=bar)[0]


def _is_own(run: Run, settings: Settings, manifest: Manifest) -> bool:
    """Whether this is the run's dataset; a `folder` or `csv` elsewhere is if it has some of its training clips."""
    name = settings.data.dataset
    if name != run.settings.data.dataset:
        return False
    trained = run.record()
    if DATASETS[name].classes or settings.data.root == run.settings.data.root or trained is None:
        return True
    used = Seen(trained.trained)
    return any(clip in used for clip in manifest.clips)


def _is_elsewhere(run: Run, settings: Settings, manifest: Manifest) -> bool:
    """Whether it is another dataset under the name of the run's, as another `folder` or `csv` is."""
    name, own = settings.data.dataset, run.settings.data
    if name != own.dataset or DATASETS[name].classes:
        return False
    if dataset_root(settings.data).absolute() == dataset_root(own).absolute():
        return False
    return run.record() is None or not _is_own(run, settings, manifest)


def _refuse_other_data(run: Run, settings: Settings, manifest: Manifest, protocols: Sequence[str]) -> None:
    """Raises UserError for measurements that would not be what they say.

    They are: zero-shot accuracies of a run on the dataset that it was tuned on, base classes that are not those that
    it was tuned on, and test clips that it was trained on. Classes that came or went are logged.
    """
    dataset, own = settings.data.dataset, run.tuned and _is_own(run, settings, manifest)
    if own and "zero-shot" in protocols:
        raise UserError(
            f"{run.path} was tuned on {dataset}: its accuracy there is not zero-shot",
            "take --protocol all, which tests all classes; or another --dataset",
        )
    wanted = {name: _protocol(manifest, settings, name)[1] for name in protocols}
    if own and settings.data.class_names == run.settings.data.class_names:
        base = {
            name
            for _, part in wanted.get("base-to-novel", ())
            if part.name == "base"
            for name in part.classes
        }
        if base and base != set(run.classes) and run.settings.data.protocol == "base-to-novel":
            other = min(base.symmetric_difference(run.classes))
            raise UserError(
                f"the base classes of {dataset} are not the {len(run.classes)} classes that {run.path} was tuned on: "
                f"'{printable(other)}' is only in one of them",
                "take --protocol few-shot, which tests all classes; or train again, if the dataset has changed",
            )
        _log_other_classes(run, manifest)
    run.refuse_trained([clip for parts in wanted.values() for _, part in parts for clip in part.clips])


def _log_other_classes(run: Run, manifest: Manifest) -> None:
    trained = run.record()
    before, now = set(trained.classes if trained else manifest.classes), set(manifest.classes)
    for names, what in ((now - before, "came to"), (before - now, "went from")):
        if names:
            _log.warning(
                "%d classes %s %s since %s was trained, such as '%s'",
                *(len(names), what, manifest.dataset, run.path, printable(min(names))),
            )


def _manifest(run: Run, data: DataSettings, class_names: str | None) -> Manifest:
    """The manifest to test on. For its own dataset a run keeps its class names, unless others are asked for."""
    own = run.settings.data.dataset in ("", data.dataset)
    if own and class_names is None:
        return run.manifest(data)
    manifest = named(read_dataset(data), data.class_names)
    strangers = sorted(set(run.classes) - set(manifest.classes))
    if own and strangers:
        _log.warning(
            "the run was tuned on other names than those that are tested, such as '%s'", strangers[0]
        )
    return manifest


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
    wanted = [_protocol(manifest, settings, name) for name in protocols]
    _warn_of_undescribed(settings, [part.classes for _, parts in wanted for _, part in parts])
    model.eval()
    # Clips that `prepare` could not decode are not tried again: they might hang or crash this process.
    known = manifest.broken
    clips = [clip for _, parts in wanted for _, part in parts for clip in part.clips]
    encoded = encode_clips(model, [clip for clip in clips if clip.id not in known], settings, group, bar=bar)
    encoded.broken.update({clip.id: known[clip.id] for clip in clips if clip.id in known})
    for name, reason in encoded.broken.items():
        _log.warning("%s counts as wrong: %s", printable(name), reason)
    taught = None
    if examples is not None:
        torch_model = TorchModel(model, settings.method.name, device=str(group.device))
        taught = Questions(taught_by_training(torch_model, examples))
    data = settings.data
    about = (about or {}) | {
        "backbone": model.backbone.name,
        "template": model.class_template,
        "views": f"{data.test_clips}x{data.test_crops}",
        "frames": data.frames,
        "class_names": data.class_names,
        "descriptions": said(settings.descriptions) if settings.descriptions else "none",
    }
    return [
        Report(
            protocol=name,
            rule=rule,
            sets=tuple(
                _score_set(model, taught, part, encoded, settings, group, split) for split, part in parts
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


def _protocol(manifest: Manifest, settings: Settings, protocol: str) -> tuple[tuple[str, str], _Sets]:
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


@torch.no_grad()
def _score_set(
    model: VideoCLIP,
    taught: Questions | None,
    part: EvalSet,
    encoded: ClipFeatures,
    settings: Settings,
    group: Group,
    split: int,
) -> SetReport:
    """Classify a test set's clips among its own classes; views are averaged as probabilities."""
    dtype = autocast_dtype(settings.training.precision, group.device, model.backbone.vision.width)
    with autocast(group.device, dtype):
        classes = model.encode_classes(list(part.classes))
        model.check_classes(part.classes)
    number = {name: index for index, name in enumerate(part.classes)}
    labels = np.array([number[str(clip.label)] for clip in part.clips], dtype=np.int64)
    ranked = np.full((len(part.clips), min(TOP, len(part.classes))), BROKEN, dtype=np.int64)
    scores = np.zeros(ranked.shape)
    everything = np.zeros((0, len(part.classes)))
    whole = [index for index, clip in enumerate(part.clips) if clip.id in encoded.features]
    if whole:
        views = torch.stack([encoded.features[part.clips[index].id] for index in whole]).to(group.device)
        if taught is None:
            logits = model.logits(views.flatten(0, 1), classes.float())
            probabilities = class_probabilities(logits, model.backbone.scoring).cpu().numpy()
        else:
            scorer = taught.scorer(dict.fromkeys(part.classes, ()), None, reject=False, choice=None)
            probabilities = scorer.probabilities(views.flatten(0, 1).cpu().numpy())
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
            warnings=_warning(clip, encoded, settings.data.frames),
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


def _test_settings(
    settings: Settings,
    protocol: str | None,
    dataset: str | None,
    root: str | Path | None,
    views: tuple[int, int] | None,
    class_names: str | None,
    descriptions: str | Path | None,
) -> Settings:
    """The run's settings, with the data settings and the class descriptions of the test."""
    data: dict[str, object] = {}
    if dataset is not None and dataset != settings.data.dataset:
        # Lists and split numbers belong to the dataset of the training.
        data |= {
            "dataset": dataset,
            "root": "",
            "split": 1,
            "split_file": "",
            "test_split_file": "",
            "labels": "",
        }
        data["protocol"] = "zero-shot"
        if settings.data.class_names not in (READABLE, RAW):  # a file names the classes of its dataset alone
            data["class_names"] = READABLE
    if class_names is not None:
        data["class_names"] = class_names
    if root is not None:
        data["root"] = str(root)
    if protocol is not None:
        data["protocol"] = protocol
    if views is not None:
        data["test_clips"], data["test_crops"] = views
    settings = settings.updated({"data": data}, "the command line")
    if descriptions is None:
        return settings
    table = read_descriptions(descriptions, settings.data.dataset)
    return settings.model_copy(update={"descriptions": table})
