"""The training loop, independent of settings, datasets and files.

The caller provides the batches (`Batches`) and an object that records progress and saves checkpoints (`Watcher`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from ga2clip.data.loader import Batch
from ga2clip.training.callbacks import Callbacks
from ga2clip.training.checkpoint import Position
from ga2clip.training.memory import memory_errors
from ga2clip.training.schedule import Rate, Stages
from ga2clip.training.signals import StopFlag
from ga2clip.training.update import FeatureBatch, Outcome, Updater
from ga2clip.training.validation import Validation

Batches = Callable[[int, int], Iterable[Batch | FeatureBatch]]
"""(epoch, batches to skip at its beginning) → the batches of that epoch, the same on every run."""


@dataclass(frozen=True)
class Plan:
    """How long a training is, and how its learning rate goes. steps_per_epoch: updates."""

    epochs: int
    steps_per_epoch: int
    rate: Rate | Stages
    checkpoint_seconds: float = 600.0

    @property
    def steps(self) -> int:
        """All updates of the training."""
        return self.epochs * self.steps_per_epoch

    def reaches(self, position: Position) -> bool:
        """Whether `position` belongs to this training.

        It does not if it was saved with another number of updates per epoch, because of another dataset or another
        number of processes.
        """
        before = position.epoch * self.steps_per_epoch + position.batch
        return position.step == before and position.batch <= max(0, self.steps_per_epoch - 1)

    def after(self, position: Position) -> Position:
        """The position after one more update."""
        batch = position.batch + 1
        if batch == self.steps_per_epoch:
            return Position(position.epoch + 1, 0, position.step + 1)
        return Position(position.epoch, batch, position.step + 1)


@dataclass
class Tally:
    """Sums over one epoch, with times measured in this process."""

    epoch: int
    steps: int = 0
    clips: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    """Seconds spent waiting for data."""
    correct: int = 0
    labelled: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one update."""
        self.steps += 1
        self.clips += outcome.labelled + outcome.anchors
        self.correct += outcome.correct
        self.labelled += outcome.labelled
        for name, value in {"loss": outcome.loss, **outcome.terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def mean(self, name: str) -> float:
        """Mean of the loss or of a term over the epoch's updates."""
        return self.sums[name] / self.steps


class Watcher(Protocol):
    """Records progress and saves checkpoints."""

    def on_step(self, position: Position, factor: float, outcome: Outcome) -> None:
        """Called after every update. position: before the update."""

    def on_epoch(self, tally: Tally) -> None:
        """Called after every epoch."""

    def save(self, position: Position) -> None:
        """Write a checkpoint."""


def fit(
    updater: Updater,
    batches: Batches,
    plan: Plan,
    watcher: Watcher,
    position: Position,
    stop: StopFlag,
    validation: Validation,
    callbacks: Callbacks,
) -> Position:
    """Train from `position` to the end of the plan or of the validation's patience, or until `stop` is set or a
    callback ends it.

    Returns the last position.

    A checkpoint is saved at the end of every epoch, every `checkpoint_seconds`, and when stopped.
    Raises UserError for a loss that is not finite and when memory runs out; the last checkpoint is kept.
    """
    updater.model.train()
    saved_at = time.monotonic()
    for epoch in range(position.epoch, plan.epochs):
        tally = Tally(epoch)
        started = time.monotonic()
        for batch in _timed(batches(epoch, position.batch), tally):
            factor = plan.rate.factor(position.step)
            with memory_errors(updater, f"in step {position.step + 1}"):
                outcome = updater.run(batch, position.step, factor, stop=bool(stop))
            tally.add(outcome)
            before, position = position, plan.after(position)
            # Before a stop is saved, too: a resumed run starts behind it.
            if not position.batch:
                outcome = replace(outcome, validation=validation.measure(position.epoch))
            watcher.on_step(before, factor, outcome)
            # Before anything is saved: a resumed run doesn't come by here again.
            updater.average.after_update(position.step, per_epoch=plan.steps_per_epoch, epochs=plan.epochs)
            if outcome.stop:
                watcher.save(position)
                return position
            if time.monotonic() - saved_at > plan.checkpoint_seconds:
                watcher.save(position)
                saved_at = time.monotonic()
        tally.seconds = time.monotonic() - started
        watcher.on_epoch(tally)
        watcher.save(position)
        saved_at = time.monotonic()
        ended = callbacks.after_epoch(tally, outcome.validation)
        if ended or validation.over(position.epoch):
            break
    updater.model.eval()
    return position


def _timed(batches: Iterable[Batch | FeatureBatch], tally: Tally) -> Iterator[Batch | FeatureBatch]:
    """The same batches; the time spent waiting for each is added to the tally."""
    iterator = iter(batches)
    while True:
        started = time.monotonic()
        batch = next(iterator, None)
        tally.waiting += time.monotonic() - started
        if batch is None:
            return
        yield batch
