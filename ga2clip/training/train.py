"""`train`: puts dataset, model and loop together and writes the run's folder.

It is called the same way in a single process and in each process that torchrun starts.
"""

import logging
import os
import random
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from ga2clip.compute.distributed import Group, join_group
from ga2clip.data.class_names import described_as_named
from ga2clip.data.manifest import Manifest, read_dataset
from ga2clip.data.protocols import Task, load_task
from ga2clip.descriptions import blamed, no_class, refuse_missing
from ga2clip.errors import UserError
from ga2clip.hard_prompt import read_hard_prompt
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.registry import LOGGERS
from ga2clip.run import (
    MAY_CHANGE,
    SETTINGS,
    another_training,
    continue_run,
    located,
    lock_run,
    read_metrics,
    read_settings,
    refuse_occupied,
    start_run,
)
from ga2clip.settings import Settings
from ga2clip.settings_reading import parse_overrides
from ga2clip.text import counted, some
from ga2clip.training.callbacks import Callback
from ga2clip.training.checkpoint import Position
from ga2clip.training.idle import refuse_idle_terms, refuse_untrained
from ga2clip.training.job import Job
from ga2clip.training.validation import check_validation

_log = logging.getLogger(__name__)


def train(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train and write a run.

    The summary and a line per epoch are logged (INFO).

    Args:
        settings: of the run; with `resume`, the result of `resume_settings(out)`.
        out: the folder of the run; with `resume`, the run to continue.
        resume: continue a run from its last checkpoint.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show a progress bar on stderr.
        callbacks: told the metrics of every epoch, see `Callback`.

    Returns:
        `out`.

    Raises:
        UserError: settings, data, a folder or a device that can't be used; no memory; a full disk.
        StoppedError: SIGTERM or Ctrl-C; a checkpoint was saved.
    """
    with join_group(device) as group, ExitStack() as held:
        if resume:
            _refuse_another_training(out, settings)
        if group.is_first and resume:
            held.enter_context(lock_run(out))
        elif group.is_first:
            refuse_occupied(out)
        group.wait()
        job = _prepare(settings, group, callbacks)
        job.log_summary()
        position = Position()
        if resume:
            job.refuse_other_data(out)  # first, as other data also make other updates
            position = job.position(out)
            job.refuse_extension_of_ended(out, position)
        note = {"devices_used": group.size}
        if group.is_first and resume:
            continue_run(out, job.settings, note)
        elif group.is_first:
            start_run(out, job.settings, note, job.record(out))
            held.enter_context(lock_run(out))
        redirect = logging_redirect_tqdm() if progress and group.is_first else nullcontext()
        with redirect:
            job.run(out, position, bar=progress and group.is_first)
        group.wait()
    return out


def _refuse_another_training(run: Path, settings: Settings) -> None:
    changed = another_training(settings, read_settings(run).model_dump(mode="json"))
    if changed:
        raise _another_training(changed)


def _another_training(key: str) -> UserError:
    allowed = [f"{section}.{name}" for section, names in MAY_CHANGE.items() for name in sorted(names)]
    return UserError(
        f"'{key}' would make it another training",
        f"settings that may change with --resume: {', '.join(allowed)}",
    )


def resume_settings(run: Path, overrides: Iterable[str] = (), *, epochs: int | None = None) -> Settings:
    """The settings of a run, with `section.key=value` overrides that don't change its updates.

    epochs: to extend the training to so many; its rate then goes on as that of a training of this length.
    Raises UserError if `run` is not a run or its settings are damaged, for an override that would change updates, and
    for fewer epochs than the run has.
    """
    if not (run / SETTINGS).is_file():
        raise UserError(
            f"{run} is not a run: it has no {SETTINGS}", "start one with `ga2clip train --out DIR`"
        )
    changes = parse_overrides(overrides)
    for section, values in changes.items():
        for key in values.keys() - MAY_CHANGE.get(section, set()):
            raise _another_training(f"{section}.{key}")
    settings = located(run, read_settings(run)).updated(changes, "the command line")
    training = settings.training
    if epochs is None or epochs == training.epochs:
        return settings
    if epochs < training.epochs:
        raise UserError(
            f"{run} has {counted(training.epochs, 'epoch')} already",
            "give more to extend it; it can't be made shorter",
        )
    longer = {"epochs": epochs, "extended": [*training.extended, training.epochs]}
    return settings.updated({"training": longer}, "--epochs")


def summary(settings: Settings, *, device: str = "auto") -> str:
    """The summary of a training without running it, for `--dry-run`. Raises as `train`."""
    with join_group(device) as group:
        return _prepare(settings, group).summary()


def result_table(run: Path) -> str:
    """A table of the metrics of the first and the last epoch; empty if nothing was trained."""
    lines = read_metrics(run)
    if not lines:
        return ""
    names = [name for name in lines[0] if name not in ("step", "epoch", "grad_norm")]
    first = [line for line in lines if line["epoch"] == lines[0]["epoch"]]
    last = [line for line in lines if line["epoch"] == lines[-1]["epoch"]]
    width = max(map(len, names))
    epochs = [f"epoch {part[0]['epoch']}" for part in (first, last)]
    head = f"{'':{width}}  {epochs[0]:>10}  {epochs[1]:>10}"
    rows = [f"{name:{width}}  {_mean(first, name):>10.4g}  {_mean(last, name):>10.4g}" for name in names]
    return "\n".join([head, *rows])


def _mean(lines: list[dict[str, float]], name: str) -> float:
    return sum(line[name] for line in lines) / len(lines)


def _prepare(settings: Settings, group: Group, callbacks: Sequence[Callback] = ()) -> Job:
    for name in settings.training.loggers:
        LOGGERS[name].check()  # refused before anything is written
    check_validation(settings)
    refuse_untrained(settings)
    manifest, task = load_task(settings)
    if settings.descriptions:
        settings = _described(settings, manifest, task)
    model = make_model(settings, task.classes).to(group.device)
    _check_texts(model, _all_classes(task))
    return Job(settings, manifest, task, model, group, callbacks)


def _described(settings: Settings, manifest: Manifest, task: Task) -> Settings:
    """The settings with descriptions under the names of the task's classes. Raises UserError where one has none."""
    table = described_as_named(settings.descriptions, manifest, read_dataset(settings.data).classes)
    names = _all_classes(task)
    refuse_missing(table, names)
    if strangers := no_class(table, names):
        _log.info("%d described names are no class here: %s", len(strangers), some(strangers))
    return settings.model_copy(update={"descriptions": table})


def _all_classes(task: Task) -> list[str]:
    """The classes that are trained on or tested, each once."""
    return list(dict.fromkeys([*task.classes, *(name for part in task.evals for name in part.classes)]))


def _check_texts(model: VideoCLIP, names: Sequence[str]) -> None:
    """Raises UserError that names class and text where one is too long for the context, tested classes included."""
    texts = model.texts_of(names)
    try:
        model.token_ids([text for own in texts.values() for text in own])
    except UserError as error:
        raise blamed(error, texts, lambda text: model.token_ids([text])) from None


def make_model(settings: Settings, classes: tuple[str, ...]) -> VideoCLIP:
    """An untrained model of the settings' method, on the CPU, determined by the seed.

    Raises UserError if the backbone or hard prompt is not available, parts contradict each other, or a loss term
    would do nothing.
    """
    training = settings.training
    _seed(training.seed, training.deterministic)
    backbone = load_backbone(settings.backbone)
    model = build_model(backbone, settings, classes, read_hard_prompt(settings.method, backbone))
    refuse_idle_terms(model)  # not of a run that is opened: one of an earlier version may have such terms
    model.backbone.vision.recompute = model.backbone.text.recompute = training.checkpoint_blocks
    if training.compile:
        model.backbone.vision.compile()
        model.backbone.text.compile()
    return model


def _seed(seed: int, deterministic: bool) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # Read by cuBLAS when it starts; without it some products are not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Filling new memory is for finding bugs in kernels; here it would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
