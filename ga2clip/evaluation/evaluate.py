"""Evaluation of runs: the settings, data and model of a test, what is refused, and the reports of `measure.py`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ga2clip.compute.distributed import join_group
from ga2clip.data.class_names import RAW, READABLE, described_as_named, named
from ga2clip.data.lineage import Seen, fingerprint
from ga2clip.data.manifest import Manifest, dataset_root, read_dataset
from ga2clip.descriptions import ClassTexts, read_descriptions
from ga2clip.errors import UserError
from ga2clip.evaluation.measure import ALL_CLASSES, evaluate_model, protocol_sets
from ga2clip.evaluation.places import measurement_folder
from ga2clip.evaluation.report import Measured, Report
from ga2clip.files import file_sha256
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import build_model
from ga2clip.registry import DATASETS
from ga2clip.run import BACKBONE, PROMPTS, Run, load_run, runs_in
from ga2clip.settings import DataSettings, Settings
from ga2clip.settings_reading import merge
from ga2clip.text import counted, printable

_log = logging.getLogger(__name__)


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
        model, examples = run.model_and_examples(group.device)
        model.class_texts = ClassTexts(settings.descriptions)
        bar = progress and group.is_first
        reports = evaluate_model(model, settings, protocols, group, manifest, examples, about=about, bar=bar)
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
    wanted = {name: protocol_sets(manifest, settings, name)[1] for name in protocols}
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
                f"the base classes of {dataset} are not the {counted(len(run.classes), 'class')} that {run.path} was "
                f"tuned on: '{printable(other)}' is only in one of them",
                "take --protocol few-shot, which tests all classes; or train again, if the dataset has changed",
            )
        log_other_classes(run, manifest)
    run.refuse_trained([clip for parts in wanted.values() for _, part in parts for clip in part.clips])


def log_other_classes(run: Run, manifest: Manifest) -> None:
    """Warn of classes that came to a dataset, or went, since the run was trained on it."""
    trained = run.record()
    before, now = set(trained.classes if trained else manifest.classes), set(manifest.classes)
    for names, what in ((now - before, "came to"), (before - now, "went from")):
        if names:
            _log.warning(
                "%s %s %s since %s was trained, such as '%s'",
                *(counted(len(names), "class"), what, manifest.dataset, run.path, printable(min(names))),
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
