"""`Job`: a training that is set up, from its summary to the files of its run."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.compute.distributed import Group
from ga2clip.compute.precision import precision_name
from ga2clip.data.lineage import Record, record, training_changes
from ga2clip.data.loader import Batch, batches_per_epoch, train_batches
from ga2clip.data.manifest import Manifest, relative_path
from ga2clip.data.protocols import Task
from ga2clip.errors import UserError
from ga2clip.labels import fill
from ga2clip.model.frozen_text import frozen_text_features, unknown_class_words
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import PROMPTS, load_run, read_record, read_settings, save_prompts
from ga2clip.runtime.doubts import warn_of_classes, warn_of_one
from ga2clip.runtime.scoring import mean_direction, normalise
from ga2clip.settings import Settings, TrainingSettings
from ga2clip.text import counted
from ga2clip.training.averaging import StartValues
from ga2clip.training.callbacks import Callback, Callbacks
from ga2clip.training.checkpoint import Position, load_checkpoint
from ga2clip.training.curves import draw_curves
from ga2clip.training.estimate import estimate
from ga2clip.training.examples import check_examples, examples_of
from ga2clip.training.features import CachedBatches, frame_features
from ga2clip.training.idle import idle_settings
from ga2clip.training.loop import Batches, Plan, fit
from ga2clip.training.memory import loader_errors, memory_errors
from ga2clip.training.progress import Recorder, Silent
from ga2clip.training.schedule import Rate, Stages
from ga2clip.training.signals import StoppedError, stop_flag
from ga2clip.training.summary import describe
from ga2clip.training.update import Updater
from ga2clip.training.validation import Validation
from ga2clip.video import Preprocess

_log = logging.getLogger(__name__)
# Updates below which GA2 on `stickfigures` was far below zero-shot (docs/benchmarks.md, "Few shots").
_SETTLED = 100
_FINISHED = "finished"
"""Key in the header of a run's prompts: the training is complete, including the mix with the original backbone."""


class Job:
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
        check_examples(settings, task)
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
            if idle := list(idle_settings(self.model)):
                _log.warning("without effect in this training: %s", "; ".join(idle))
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
                f"{out} was saved after {counted(position.step, 'update')} "
                f"({counted(position.epoch, 'epoch')} and {counted(position.batch, 'update')} "
                f"of the next), but this training has {counted(self.plan.steps_per_epoch, 'update')} per epoch",
                "resume with the dataset and the number of processes that it was started with",
            )
        return position

    def record(self, out: Path) -> Record:
        """What the run in `out` will have been trained on."""
        learns = self.plan.steps or self.settings.method.teach
        task = self.task if learns else replace(self.task, train=(), val=())
        return record(self.manifest, task, _from(out, task.root))

    def refuse_other_data(self, out: Path) -> None:
        """Raises UserError when the dataset is not the one that the run was started with."""
        trained = read_record(out)
        if trained is None or not trained.trained:  # of an earlier version, or nothing trains
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
                f"validation has ended {out} after {counted(position.epoch, 'epoch')}: training.patience is "
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
            _log.info("%s is finished after %s", out, counted(position.step, "update"))
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
        teach = method.teach
        examples = examples_of(self.model, self.task, self.settings, self.group) if teach else None
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
            save_prompts(out, self.model, note, examples)
            _log.info("wrote %s", out / PROMPTS)

    def _batches(self) -> Batches:
        if self.plan.steps and self.settings.training.cache_features and self.model.features_suffice:
            clips = [*self.task.train, *self.task.anchors]
            _log.info(
                "the vision tower does not train: computing the features of %s once",
                counted(len(clips), "clip"),
            )
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


def _stages(training: TrainingSettings, epochs: int, per_epoch: int) -> Rate | Stages:
    """The rate of all updates, also of a training that was extended."""
    rate = _rate(training, epochs, per_epoch)
    if not training.extended:
        return rate
    return Stages((*(_rate(training, count, per_epoch) for count in training.extended), rate))


def _rate(training: TrainingSettings, epochs: int, per_epoch: int) -> Rate:
    return Rate(
        total=epochs * per_epoch,
        warmup=round(training.warmup_epochs * per_epoch),
        per_epoch=per_epoch,
        floor=training.lr_floor,
        warmup_factor=training.warmup_factor,
        kind=training.schedule,
    )


def _from(folder: Path, root: Path) -> str:
    """The way from a run's folder to its dataset's, with `/`; "" where there is none, as between drives."""
    try:
        return relative_path(root.absolute(), folder.absolute())
    except ValueError:
        return ""
