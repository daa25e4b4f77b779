"""Records a training: metrics, checkpoints, log lines, progress bar, loggers.

`metrics.jsonl` has a line per update and is identical for all runs with the same seed on the same device; times are
only in the log and in loggers.
"""

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ga2clip.files import write_error, write_text
from ga2clip.registry import LOGGERS
from ga2clip.run import METRICS, read_metrics, save_prompts
from ga2clip.training.checkpoint import Position, save_checkpoint
from ga2clip.training.logger import Logger
from ga2clip.training.loop import Plan, Tally
from ga2clip.training.update import Outcome, Updater
from ga2clip.training.validation import ACCURACY, LOSS

_log = logging.getLogger(__name__)


class Recorder:
    """The watcher of the first process: metrics, checkpoints, progress bar, loggers.

    Raises UserError when a file cannot be written (a full disk); the last checkpoint is kept.
    """

    def __init__(self, folder: Path, updater: Updater, plan: Plan, position: Position, *, bar: bool) -> None:
        self.folder, self.updater, self.plan = folder, updater, plan
        self._metrics = _reopen(folder / METRICS, position.step)
        settings = updater.model.settings
        self._loggers: list[Logger] = [
            LOGGERS[name](folder, settings, position.step) for name in settings.training.loggers
        ]
        self._clips, self._started = 0, time.monotonic()
        self._bar = tqdm(
            total=plan.steps, initial=position.step, unit="step", disable=not bar, dynamic_ncols=True
        )

    def on_step(self, position: Position, factor: float, outcome: Outcome) -> None:
        """Write a line of metrics and move the bar."""
        step, epoch = position.step + 1, position.epoch + 1
        lr = self.updater.settings.lr * factor
        accuracy = outcome.correct / max(1, outcome.labelled)
        self._clips += outcome.labelled + outcome.anchors
        line: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "lr": lr,
            "loss": outcome.loss,
        }
        line |= outcome.terms | {"accuracy": accuracy, "grad_norm": _finite(outcome.grad_norm)}
        line |= outcome.validation
        self._write(line)
        if outcome.validation:
            _log.info(
                "validation after epoch %d: accuracy %.1f %%, loss %.4f%s",
                *(epoch, 100 * outcome.validation[ACCURACY], outcome.validation[LOSS]),
                ", the best so far" if self.updater.best.epoch == epoch else "",
            )
        terms = (
            {name: f"{value:.3f}" for name, value in outcome.terms.items()} if len(outcome.terms) > 1 else {}
        )
        self._bar.set_postfix(
            {
                "epoch": epoch,
                "loss": f"{outcome.loss:.3f}",
                **terms,
                "acc": f"{accuracy:.0%}",
                "lr": f"{lr:.1e}",
                "clips/s": f"{self._clips / max(time.monotonic() - self._started, 1e-9):.1f}",
            },
            refresh=False,
        )
        self._bar.update()
        self._log({name: value for name, value in line.items() if value is not None}, step)

    def on_epoch(self, tally: Tally) -> None:
        """Log the means of the epoch, and the time spent waiting for data."""
        _log.info(
            "epoch %d/%d: loss %.4f, accuracy %.1f %%, %.1f s, %.1f clips/s, %.0f %% of the time waiting for data",
            tally.epoch + 1,
            self.plan.epochs,
            tally.mean("loss"),
            100 * tally.correct / max(1, tally.labelled),
            tally.seconds,
            tally.clips / max(tally.seconds, 1e-9),
            100 * tally.waiting / max(tally.seconds, 1e-9),
        )
        share = tally.waiting / max(tally.seconds, 1e-9)
        times = {"time/seconds_per_epoch": tally.seconds, "time/waiting_share": share}
        self._log(times, (tally.epoch + 1) * self.plan.steps_per_epoch)

    def save(self, position: Position) -> None:
        """Write the tuned tensors and the state for resuming."""
        save_checkpoint(self.folder, self.updater, position)
        save_prompts(self.folder, self.updater.model, {"step": position.step, "steps": self.plan.steps})

    def close(self) -> None:
        """Close files and the bar."""
        self._bar.close()
        with suppress(OSError):  # a line that did not fit on the disk would be written again; it was reported
            self._metrics.close()
        for logger in self._loggers:
            logger.close()

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.log(values, step)

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise write_error(self.folder / METRICS, error) from error


class Silent:
    """The watcher of all processes but the first, which records nothing."""

    def on_step(self, position: Position, factor: float, outcome: Outcome) -> None:
        """Nothing to do."""

    def on_epoch(self, tally: Tally) -> None:
        """Nothing to do."""

    def save(self, position: Position) -> None:
        """Nothing to do."""


def _reopen(path: Path, step: int) -> TextIOWrapper:
    """The metrics file, truncated after `step`: later updates will be repeated."""
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    last = kept[-1]["step"] if kept else 0
    if last < step:
        _log.warning("%s ends at step %d of %d: the lines after it were lost", path, last, step)
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise write_error(path, error) from error


def _finite(value: float) -> float | None:
    """The value, or None if it is not finite, which JSON can't express. (A gradient in fp16 may overflow; the update is
    then skipped and the loss scale lowered.)
    """
    return value if math.isfinite(value) else None
