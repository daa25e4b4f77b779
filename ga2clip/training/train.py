"""`train`: puts dataset, model and loop together and writes the run's folder.

It is called the same way in a single process and in each process that torchrun starts.
"""

import logging
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from ga2clip.compute.distributed import Group, join_group
from ga2clip.compute.precision import precision_name
from ga2clip.data.class_names import described_as_named
from ga2clip.data.lineage import Record, record, training_changes
from ga2clip.data.loader import Batch, batches_per_epoch, train_batches
from ga2clip.data.manifest import Manifest, read_dataset, relative_path
from ga2clip.data.protocols import Task, load_task
from ga2clip.descriptions import no_class, refuse_missing
from ga2clip.errors import UserError
from ga2clip.hard_prompt import read_hard_prompt
from ga2clip.labels import fill
from ga2clip.model.frozen_text import frozen_text_features, unknown_class_words
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.registry import LOGGERS
from ga2clip.run import (
    MAY_CHANGE,
    PROMPTS,
    SETTINGS,
    another_training,
    continue_run,
    load_run,
    located,
    lock_run,
    read_metrics,
    read_record,
    read_settings,
    refuse_occupied,
    save_prompts,
    start_run,
)
from ga2clip.runtime.doubts import warn_of_classes, warn_of_one
from ga2clip.runtime.scoring import mean_direction, normalise
from ga2clip.settings import Settings, TrainingSettings, parse_overrides
from ga2clip.text import some
from ga2clip.training.averaging import StartValues
from ga2clip.training.callbacks import Callback, Callbacks
from ga2clip.training.checkpoint import Position, load_checkpoint
from ga2clip.training.curves import draw_curves
from ga2clip.training.estimate import estimate
from ga2clip.training.features import CachedBatches, frame_features
from ga2clip.training.loop import Batches, Plan, fit
from ga2clip.training.memory import loader_errors, memory_errors
from ga2clip.training.progress import Recorder, Silent
from ga2clip.training.schedule import Rate, Stages
from ga2clip.training.signals import StoppedError, stop_flag
from ga2clip.training.summary import describe
from ga2clip.training.update import Updater
from ga2clip.training.validation import Validation, check_validation
from ga2clip.video import Preprocess

_log = logging.getLogger(__name__)
# Updates below which GA2 on `stickfigures` was far below zero-shot (docs/benchmarks.md, "Few shots").
_SETTLED = 100
_FINISHED = "finished"
"""Key in the header of a run's prompts: the training is complete, including the mix with the original backbone."""


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
        position = job.position(out) if resume else Position()
        if resume:
            job.refuse_other_data(out)
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


def _from(folder: Path, root: Path) -> str:
    """The way from a run's folder to its dataset's, with `/`; "" where there is none, as between drives."""
    try:
        return relative_path(root.absolute(), folder.absolute())
    except ValueError:
        return ""


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
            f"{run} has {training.epochs} epochs already", "give more to extend it; it can't be made shorter"
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


class _Job:
    """A training that is set up but not started."""

    def __init__(
        self,
        settings: Settings,
        manifest: Manifest,
        task: Task,
        model: VideoCLIP,
        group: Group,
        callbacks: Sequence[Callback],
    ) -> None:
        self.settings, self.model, self.group = settings, model, group
        self.manifest, self.task = manifest, task
        self.updater = Updater(model, group)
        self.validation = Validation(self.updater, task)
        self.callbacks = Callbacks(callbacks, group, averaged=settings.average.kind != "none")
        # Before a resumed run loads its state: a new model has the values that the training started from.
        self.start = StartValues(model.parameter_groups()["parts"], settings.method.interpolate_parts)
        training = settings.training
        trains = bool(self.updater.parameters) and bool(task.train)
        per_epoch = batches_per_epoch(task, settings, group.size) if trains else 0
        epochs = training.epochs if per_epoch else 0
        self.plan = Plan(
            epochs, per_epoch, _stages(training, epochs, per_epoch), 60 * training.checkpoint_minutes
        )

    def summary(self) -> str:
        """The summary (`summary.describe`); warns of what the training would warn of."""
        with memory_errors(self.updater, "while the cost of a step was measured"):
            cost = estimate(self.updater) if self.plan.steps else None
        if (
            self.group.is_first
            and self.settings.method.coupling == "mapping"
            and 0 < self.plan.steps < _SETTLED
        ):
            _log.warning(
                "the mapping layer starts from random values, and %d updates may be too few to train it: "
                "train longer, or take --set method.coupling=gated, which starts from the soft prompt",
                self.plan.steps,
            )
        if self.group.is_first:
            self._warn_of_classes()
        where = f"{self.group.size} × {self.group.device}" if self.group.size > 1 else str(self.group.device)
        where = f"{where}, {precision_name(self.updater.dtype)}"
        return describe(self.model, self.task, self.plan, cost, where)

    def _warn_of_classes(self) -> None:
        """Warn of classes that the text tower, as it is before tuning, can't tell apart or does not know."""
        names, backbone = self.task.classes, self.model.backbone
        template = self.settings.method.scenario_template
        texts = [self.settings.descriptions.get(name) or (fill(template, name),) for name in names]
        rows = frozen_text_features(backbone, [text for own in texts for text in own]).float().cpu().numpy()
        parts = np.split(normalise(rows), np.cumsum([len(own) for own in texts])[:-1])
        features = np.stack([mean_direction(part) for part in parts])
        warn_of_classes(names, features, unknown_class_words(backbone, names))
        if len(names) == 1:
            warn_of_one(names[0])

    def log_summary(self) -> None:
        """Log the summary in the first process. All processes must call this, since all of them measure."""
        text = self.summary()
        if self.group.is_first:
            for line in text.splitlines():
                _log.info(line)

    def position(self, out: Path) -> Position:
        """Load the state of a resumed run; returns its position.

        Raises UserError for a state that is damaged or does not fit this dataset and number of processes.
        """
        position = load_checkpoint(out, self.updater) if self.plan.steps else Position()
        if not self.plan.reaches(position):
            raise UserError(
                f"{out} was saved after {position.step} updates ({position.epoch} epochs and {position.batch} updates "
                f"of the next), but this training has {self.plan.steps_per_epoch} updates per epoch",
                "resume with the dataset and the number of processes that it was started with",
            )
        return position

    def record(self, out: Path) -> Record:
        """What the run in `out` will have been trained on."""
        task = self.task if self.plan.steps else replace(self.task, train=(), val=())
        return record(self.manifest, task, _from(out, task.root))

    def refuse_other_data(self, out: Path) -> None:
        """Raises UserError when the dataset is not the one that the run was started with."""
        trained = read_record(out)
        if trained is None or not self.plan.steps:  # of an earlier version, or nothing trains
            return
        changed = training_changes(trained, self.task)
        if not changed and trained.classes != list(self.manifest.classes):
            changed = "its classes are others"
        if changed:
            raise UserError(
                f"the data in {self.task.root} is not what {out} was trained on: {changed}",
                f"start another run: ga2clip train --recipe {out} --out DIR; or bring the dataset back",
            )

    def refuse_extension_of_ended(self, out: Path, position: Position) -> None:
        """Raises UserError when a run that validation has ended is to be made longer."""
        if self.settings.training.epochs > read_settings(out).training.epochs and self._is_over(position):
            raise UserError(
                f"validation has ended {out} after {position.epoch} epochs: training.patience is "
                f"{self.settings.training.patience}",
                f"start another run with more patience: ga2clip train --recipe {out} --out DIR "
                "--set training.patience=N",
            )

    def _is_over(self, position: Position) -> bool:
        """Whether nothing is left to train."""
        return position.epoch >= self.plan.epochs or (
            not position.batch and self.validation.over(position.epoch)
        )

    def run(self, out: Path, position: Position, *, bar: bool) -> None:
        """Train from `position` to the end, or until stopped, and write the files of the run."""
        if position.step and self._is_over(position):
            _log.info("%s is finished: %d updates are done", out, position.step)
            # It may have been killed between the last checkpoint and the end of the run.
            if not (out / PROMPTS).is_file() or not load_run(out).meta.get(_FINISHED):
                self._finish(out, position)
            return
        recorder = Recorder(out, self.updater, self.plan, position, bar=bar) if self.group.is_first else None
        try:
            with stop_flag() as stop, loader_errors(self.settings.training.workers):
                watcher = recorder or Silent()
                position = fit(
                    self.updater,
                    self._batches(),
                    self.plan,
                    watcher,
                    position,
                    stop,
                    self.validation,
                    self.callbacks,
                )
        finally:
            if recorder:
                recorder.close()
        if not (self.callbacks.stopped or self._is_over(position)):
            number = stop.signal
            raise StoppedError(
                f"stopped by {number.name if number else 'another process'} after step {position.step}",
                f"checkpoint saved; continue with: ga2clip train --resume {out}",
                128 + (number or 0),
            )
        self._finish(out, position)

    def _finish(self, out: Path, position: Position) -> None:
        if self.plan.steps:
            self.updater.average.apply()
            self.updater.best.apply()
            self.start.mix()
        method = self.settings.method
        if method.tune in ("vision", "text", "both") and method.interpolate < 1:
            self.model.interpolate_backbone(load_backbone(self.settings.backbone), method.interpolate)
        if self.group.is_first:
            draw_curves(out)
            note: dict[str, Any] = {"step": position.step, "steps": self.plan.steps, _FINISHED: True}
            if self.updater.best.epoch:
                kept = "best" if self.updater.best.weights else "average"
                note["validation"] = {**self.updater.best.numbers(), "kept": kept}
                if kept == "best":
                    _log.info(
                        "kept as it was after epoch %d, the best in validation", self.updater.best.epoch
                    )
            save_prompts(out, self.model, note)
            _log.info("wrote %s", out / PROMPTS)

    def _batches(self) -> Batches:
        if self.plan.steps and self.settings.training.cache_features and not self.model.trains("vision"):
            clips = [*self.task.train, *self.task.anchors]
            _log.info("the vision tower does not train: computing the features of %d clips once", len(clips))
            features = frame_features(self.model, clips, self.settings, self.group)
            return CachedBatches(self.task, self.settings, self.group, features)
        return _Stream(self.task, self.settings, self.model.preprocess, self.group)


class _Stream:
    """The decoded batches of all epochs, from loader processes that run until the end of the training."""

    def __init__(self, task: Task, settings: Settings, preprocess: Preprocess, group: Group) -> None:
        self.task, self.settings, self.preprocess, self.group = task, settings, preprocess, group
        self.per_epoch = batches_per_epoch(task, settings, group.size)
        self._running: Iterator[Batch] | None = None

    def __call__(self, epoch: int, skip: int) -> Iterator[Batch]:
        """The batches of an epoch after the first `skip`. Must be called for one epoch after the other."""
        if self._running is None:
            self._running = train_batches(
                self.task,
                self.settings,
                self.preprocess,
                epoch=epoch,
                until=self.settings.training.epochs,
                rank=self.group.rank,
                world=self.group.size,
                skip=skip,
            )
        return islice(self._running, self.per_epoch - skip)


def _prepare(settings: Settings, group: Group, callbacks: Sequence[Callback] = ()) -> _Job:
    for name in settings.training.loggers:
        LOGGERS[name].check()  # refused before anything is written
    check_validation(settings)
    _refuse_untrained(settings)
    manifest, task = load_task(settings)
    if settings.descriptions:
        settings = _described(settings, manifest, task)
    model = make_model(settings, task.classes).to(group.device)
    return _Job(settings, manifest, task, model, group, callbacks)


def _refuse_untrained(settings: Settings) -> None:
    """Raises UserError, before weights are loaded, where zero-shot would be measured with prompts at their start."""
    method = settings.method
    learns = method.text_length or method.vision_length or method.linear_probe or settings.parts
    if settings.data.protocol == "zero-shot" and learns:
        raise UserError(
            f"zero-shot trains nothing: what '{method.name}' learns would stay as it starts",
            "take --method zero-shot; or --protocol few-shot to train it",
        )


def _stages(training: TrainingSettings, epochs: int, per_epoch: int) -> Rate | Stages:
    """The rate of all updates, also of a training that was extended."""
    rate = _rate(training, epochs, per_epoch)
    if not training.extended:
        return rate
    return Stages((*(_rate(training, count, per_epoch) for count in training.extended), rate))


def _described(settings: Settings, manifest: Manifest, task: Task) -> Settings:
    """The settings with descriptions under the names of the task's classes. Raises UserError where one has none."""
    table = described_as_named(settings.descriptions, manifest, read_dataset(settings.data).classes)
    tested = [name for part in task.evals for name in part.classes]
    names = list(dict.fromkeys([*task.classes, *tested]))
    refuse_missing(table, names)
    if strangers := no_class(table, names):
        _log.info("%d described names are no class here: %s", len(strangers), some(strangers))
    return settings.model_copy(update={"descriptions": table})


def _rate(training: TrainingSettings, epochs: int, per_epoch: int) -> Rate:
    return Rate(
        total=epochs * per_epoch,
        warmup=round(training.warmup_epochs * per_epoch),
        per_epoch=per_epoch,
        floor=training.lr_floor,
        warmup_factor=training.warmup_factor,
        kind=training.schedule,
    )


def make_model(settings: Settings, classes: tuple[str, ...]) -> VideoCLIP:
    """An untrained model of the settings' method, on the CPU, determined by the seed.

    Raises UserError if the backbone or hard prompt is not available, or parts contradict each other.
    """
    training = settings.training
    _seed(training.seed, training.deterministic)
    backbone = load_backbone(settings.backbone)
    model = build_model(backbone, settings, classes, read_hard_prompt(settings.method, backbone))
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
