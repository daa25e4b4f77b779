"""Writing the built-in datasets into a folder: H.264 clips, and a `GeneratedClip` record of each.

Layout: `videos/<class>/<split>_<nnn>.mp4` and `irrelevant/<kind>_<nnn>.mp4`. A clip's pixels depend on the seed, the
class, the split and the number alone. Beside the clips lies `generated.json` with the records of finished files:
what it vouches for isn't rendered again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

import cv2
from pydantic import TypeAdapter

from ga2clip.data.manifest import Count, Seconds
from ga2clip.data.pool import default_workers, silent
from ga2clip.data.stickfigures.classes import ActionClass
from ga2clip.data.stickfigures.empty import EMPTY_KINDS
from ga2clip.data.stickfigures.render import FPS, render_action, render_empty
from ga2clip.data.stickfigures.sets import CLASS_SETS
from ga2clip.errors import UserError, unknown_name
from ga2clip.files import file_sha256, write_text
from ga2clip.video import write_video

logger = logging.getLogger(__name__)

JOURNAL = "generated.json"
VERSION = 3
"""Raised when the drawings change, so that finished files of an older drawing are rendered again."""

_ACTORS = {"train": 0, "test": 500_000, "anchor": 1_000_000}
_SERIES = 100_000
_SAVE_EVERY = 100


@dataclass(frozen=True)
class GeneratedClip:
    """One clip on disk.

    Attributes:
        path: relative to the dataset's folder, with `/`.
        label: class name; None for an irrelevant clip.
        split: "train", "test" or "anchor".
        actor: seed of the clip; train and test never share one.
        frames: how many.
        duration: seconds.
        pixels_sha256: of the frames before encoding, uint8 (T, H, W, 3) in C order.
        sha256: of the file.
    """

    path: str
    label: str | None
    split: str
    actor: int
    frames: Count
    duration: Seconds
    pixels_sha256: str
    sha256: str


_RECORDS = TypeAdapter(list[GeneratedClip])


@dataclass(frozen=True)
class _Job:
    """A clip to be written; `kind` is the dataset's class or the kind of irrelevant clip."""

    path: str
    dataset: str
    kind: str
    split: str
    actor: int


def generate(
    out: Path,
    *,
    dataset: str = "stickfigures",
    seed: int = 0,
    train_per_class: int = 20,
    test_per_class: int = 10,
    irrelevant: int = 120,
    workers: int | None = None,
    progress: Callable[[int, int], object] = silent,
) -> list[GeneratedClip]:
    """Generate a dataset into a folder, going on where an earlier call stopped.

    Args:
        out: the folder; made if missing.
        dataset: a key of `sets.CLASS_SETS`.
        seed: decides every pixel.
        train_per_class, test_per_class: clips of each class.
        irrelevant: clips without a figure, spread over the kinds.
        workers: processes; None takes the processors that there are, 1 uses this process.
        progress: is told how many clips are done, and of how many.

    Returns:
        One record per clip: classes in the order of the dataset, train before test, irrelevant ones last.

    Raises:
        UserError: unknown dataset, impossible count, or a folder that can't be written to.
    """
    if dataset not in CLASS_SETS:
        raise unknown_name("built-in dataset", dataset, list(CLASS_SETS))
    counts = {"train": train_per_class, "test": test_per_class}
    if min(*counts.values(), irrelevant) < 0 or max(*counts.values(), irrelevant) > 999:
        raise UserError("the number of clips must be between 0 and 999")
    jobs = list(_jobs(dataset, seed, counts, irrelevant))
    finished = _read_journal(out)
    records = {job.path: finished[job.path] for job in jobs if _is_done(out, job, finished)}
    missing = [job for job in jobs if job.path not in records]
    progress(len(records), len(jobs))
    try:
        for number, record in enumerate(_run(out, missing, workers), start=1):
            records[record.path] = finished[record.path] = record
            progress(len(records), len(jobs))
            if number % _SAVE_EVERY == 0:
                _write_journal(out, finished)
    finally:
        if missing:
            _write_journal(out, finished)
    return [records[job.path] for job in jobs]


def _jobs(dataset: str, seed: int, counts: dict[str, int], irrelevant: int) -> Iterator[_Job]:
    for action in CLASS_SETS[dataset].by_name.values():
        for split, count in counts.items():
            for number in range(count):
                path = f"videos/{action.slug}/{split}_{number:03d}.mp4"
                actor = _actor(seed, split, number) + _SERIES * _series(action)
                yield _Job(path, dataset, action.name, split, actor)
    for number in range(irrelevant):
        kind = EMPTY_KINDS[number % len(EMPTY_KINDS)]
        path = f"irrelevant/{kind}_{number // len(EMPTY_KINDS):03d}.mp4"
        yield _Job(path, dataset, kind, "anchor", _actor(seed, "anchor", number))


def _actor(seed: int, split: str, number: int) -> int:
    return seed * 2_000_000 + _ACTORS[split] + number


def _series(action: ActionClass) -> int:
    """Which actors a class has, so that none plays a motion and its reverse, and each stands for one drawing."""
    return 2 if action.backwards_of else int(action.look == "paint")


def _run(out: Path, jobs: list[_Job], workers: int | None) -> Iterator[GeneratedClip]:
    """The records in the order of the jobs.

    Processes are plain ones, not of `multiprocessing`: that one runs the caller's script again, which fails for
    scripts from standard input and without a main guard.
    """
    count = min(workers or default_workers(), len(jobs))
    if count <= 1:
        yield from (_make(out, job) for job in jobs)
        return
    processes: list[subprocess.Popen[str]] = []
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    threads = ThreadPoolExecutor(count)

    def ask(job: _Job) -> GeneratedClip:
        process = idle.get()
        try:
            return _ask(process, job)
        finally:
            idle.put(process)

    try:
        for _ in range(count):
            processes.append(_start(out))
            idle.put(processes[-1])
        yield from threads.map(ask, jobs)
    finally:
        threads.shutdown(
            cancel_futures=True
        )  # a process that is killed while it encodes leaves a part of a file
        for process in processes:
            process.kill()
            process.communicate()


def _start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ga2clip.data.stickfigures.generate", str(out)]
    pipe = subprocess.PIPE
    try:  # in a session of its own, so that Ctrl-C reaches the parent alone, which then ends it
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="ascii", start_new_session=True)
    except OSError as error:
        raise UserError(f"cannot start a process: {error.strerror}", "use fewer workers") from None


def _ask(process: subprocess.Popen[str], job: _Job) -> GeneratedClip:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(asdict(job)) + "\n")
        process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise UserError(f"the process that renders {job.path} ended early (exit code {process.wait()})")
    said = json.loads(answer)
    if "failed" in said:
        raise UserError(said["failed"], said["hint"])
    return GeneratedClip(**said)


def _main() -> None:
    """Answer the jobs on stdin until it ends, as it does when the parent is gone."""
    cv2.setNumThreads(1)
    out = Path(sys.argv[1])
    for line in sys.stdin:
        try:
            said = asdict(_make(out, _Job(**json.loads(line))))
        except UserError as error:
            said = {"failed": error.message, "hint": error.hint}
        print(json.dumps(said), flush=True)


def _make(out: Path, job: _Job) -> GeneratedClip:
    """Render, encode and describe one clip."""
    label = None if job.split == "anchor" else job.kind
    if label:
        clip = render_action(CLASS_SETS[job.dataset].by_name[label], job.actor)
    else:
        clip = render_empty(job.kind, job.actor)
    path = out / job.path
    write_video(path, clip, FPS)
    return GeneratedClip(
        path=job.path,
        label=label,
        split=job.split,
        actor=job.actor,
        frames=len(clip),
        duration=len(clip) / FPS,
        pixels_sha256=hashlib.sha256(clip.tobytes()).hexdigest(),
        sha256=file_sha256(path),
    )


def _is_done(out: Path, job: _Job, finished: dict[str, GeneratedClip]) -> bool:
    """Whether the file that the journal speaks of is still there, whole, and of this seed."""
    record, path = finished.get(job.path), out / job.path
    if record is None or record.actor != job.actor or not path.is_file():
        return False
    return file_sha256(path) == record.sha256


def _read_journal(out: Path) -> dict[str, GeneratedClip]:
    """The records of finished files; none when the journal is damaged or of another version: all are made again."""
    try:
        journal = json.loads((out / JOURNAL).read_text(encoding="utf-8"))
        if journal["version"] != VERSION:
            return {}
        return {record.path: record for record in _RECORDS.validate_python(journal["clips"])}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {out / JOURNAL}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        logger.warning("%s is damaged: the clips are generated again", out / JOURNAL)
        return {}


def _write_journal(out: Path, finished: dict[str, GeneratedClip]) -> None:
    journal = {"version": VERSION, "clips": [asdict(record) for record in finished.values()]}
    write_text(out / JOURNAL, json.dumps(journal))


if __name__ == "__main__":
    try:
        _main()
    except BrokenPipeError:  # the parent is gone: nobody wants the answer, nor Python's word about stdout
        os._exit(1)
