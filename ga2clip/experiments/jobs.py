"""Trainings that belong to one question: each is trained once and measured once, however often they are asked for."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ga2clip.data.protocols import Task, load_task
from ga2clip.errors import UserError
from ga2clip.experiments.compare import Measurement, is_measured, measurements
from ga2clip.experiments.seeds import refuse_another, train_once
from ga2clip.run import SETTINGS, is_finished, load_run
from ga2clip.settings import Settings
from ga2clip.text import counted
from ga2clip.training.signals import StoppedError

if TYPE_CHECKING:  # loads torch, which the reading of a sweep's file need not wait for
    from ga2clip.training.expected import Expected, Pace

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run. folder: where it lies or will lie."""

    folder: Path
    settings: Settings

    def left(self) -> tuple[str, ...]:
        """What is left to do with it, `training` and `testing`. Raises UserError for another run in its folder."""
        refuse_another(self.folder, self.settings)
        if not is_finished(self.folder):
            return ("training", "testing")
        return () if is_measured(load_run(self.folder)) else ("testing",)


class RunsFailedError(UserError):
    """Some runs failed; the others are done.

    measured: the measurements of those that are done.
    """

    def __init__(self, message: str, hint: str, measured: Sequence[Measurement]) -> None:
        super().__init__(message, hint)
        self.measured = measured


def run_jobs(jobs: Sequence[Job], *, device: str = "auto", progress: bool = True) -> list[Measurement]:
    """Train and measure what is left, and return the measurements of all.

    A run that fails does not keep the others from being done.

    Raises:
        UserError: a folder holds another training (before anything is trained).
        RunsFailedError: some runs failed (at the end, with the reason of the first).
        StoppedError: SIGTERM or Ctrl-C; a checkpoint was saved, and the same call goes on.
    """
    for job in jobs:
        job.left()
    failed: dict[Path, UserError] = {}
    for number, job in enumerate(jobs, 1):
        _log.info("run %d of %d: %s", number, len(jobs), job.folder)
        try:
            _do(job, device, progress)
        except StoppedError:
            raise
        except UserError as error:
            _log.warning("%s failed: %s", job.folder, error.message)
            failed[job.folder] = error
    if failed:
        folder, first = next(iter(failed.items()))
        raise RunsFailedError(
            f"{len(failed)} of {counted(len(jobs), 'run')} failed, {folder} with: {first.message}",
            first.hint or "the same command does what is left",
            _measured(job for job in jobs if job.folder not in failed),
        )
    return _measured(jobs)


def _measured(jobs: Iterable[Job]) -> list[Measurement]:
    return measurements([load_run(job.folder) for job in jobs])


def _do(job: Job, device: str, progress: bool) -> None:
    train_once(job.settings, job.folder, device=device, progress=progress)
    if not is_measured(load_run(job.folder)):
        from ga2clip.evaluation.evaluate import evaluate_run

        root = job.settings.data.root or None
        evaluate_run(job.folder, root=root, device=device, progress=progress, write=True)


def describe_jobs(
    jobs: Sequence[Job],
    *,
    device: str = "auto",
    unprepared: Callable[[Settings], Task] | None = None,
) -> str:
    """A line per run with what is left to do and the time that it will take, and the sum. Nothing is written.

    Trainings that differ in seed, rate, epochs, shots or protocol alone are measured once for each number of classes.

    Args:
        jobs: the runs.
        device: where they would be computed.
        unprepared: the task of settings whose dataset is not prepared; None: their time is unknown.

    Raises:
        UserError: a folder holds another training; a device that is not there.
    """
    from ga2clip.compute.distributed import choose_device
    from ga2clip.training.expected import Expected, Pace
    from ga2clip.training.summary import duration

    choose_device(device)  # else the time of every run would be unknown
    paces: dict[str, Pace | UserError] = {}
    lines, total, unknown, reading = [], 0.0, 0, True
    for job in jobs:
        left = job.left()
        what = " and ".join(left) or "done"
        if "training" in left and (job.folder / SETTINGS).is_file():
            what = f"the rest of {what}"
        time = _expected(job.settings, paces, device, unprepared) if left else Expected(0.0, 0.0, True)
        if isinstance(time, UserError):
            unknown += 1
            lines.append((str(job.folder), what, f"time unknown: {time.message}"))
            continue
        seconds = sum(getattr(time, part) for part in left)
        total, reading = total + seconds, reading and time.reading
        lines.append((str(job.folder), what, f"about {duration(seconds)}" if left else ""))
    wide = [max(len(line[column]) for line in lines) for column in (0, 1)]
    rows = [f"{a:{wide[0]}}  {b:{wide[1]}}  {c}".rstrip() for a, b, c in lines]
    if unknown == len(jobs):
        return "\n".join([*rows, "in all of unknown time"])
    notes = ["" if reading else "without reading clips", f"{unknown} of unknown time" if unknown else ""]
    note = "; ".join(["an update and a clip were measured here", *filter(None, notes)])
    return "\n".join([*rows, f"in all about {duration(total)} ({note})"])


def _expected(
    settings: Settings,
    paces: "dict[str, Pace | UserError]",
    device: str,
    unprepared: Callable[[Settings], Task] | None,
) -> "Expected | UserError":
    """The time of a run, or why it is unknown. paces: what was measured before, by its key; is added to."""
    from ga2clip.training import expected

    try:
        task = _task(settings, unprepared)
    except UserError as error:
        return error
    key = expected.pace_key(settings, task)
    if key not in paces:
        try:
            paces[key] = expected.measure_pace(settings, task, device=device)
        except UserError as error:
            paces[key] = error
    pace = paces[key]
    return pace if isinstance(pace, UserError) else expected.expected_time(settings, task, pace)


def _task(settings: Settings, unprepared: Callable[[Settings], Task] | None) -> Task:
    try:
        return load_task(settings)[1]
    except UserError:
        if unprepared is None:
            raise
        return unprepared(settings)
