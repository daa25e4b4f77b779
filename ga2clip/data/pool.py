"""A pool of worker processes that survives crashes: takes jobs (dicts), returns answers in the order of completion.

A job that crashes its process or sends nothing for too long is answered with `Lost`; the next job gets a new process.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import IO, Any

from ga2clip.errors import UserError

Job = dict[str, Any]
Answer = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with the activity (such as `checking`), the number of items done, and the number of all items."""

_START_UP = 120.0  # seconds in which a new process must be ready


@dataclass(frozen=True)
class Lost:
    """A job without an answer. last: the last message of its process, if any."""

    reason: str
    last: Answer | None


def default_workers() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def silent(*_: object) -> None:
    """A callback that does nothing."""


class Worker:
    """One process that runs `ga2clip.data.worker`; started for its first job, and restarted after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._ended = False

    def ask(self, job: Job, hear: Callable[[Answer], None]) -> Answer | Lost:
        """The answer to a job. hear: called with each message of the process before the answer.

        Raises UserError when no process can be started.
        """
        if self._process is None:
            self._process = _start()
            if self._ended:
                self._process.kill()
            elif not _read_line(self._process, _START_UP)[0].endswith("\n"):
                raise UserError("a worker process ended before it was ready", "its own message is above")
        process, last = self._process, None
        try:
            _pipe(process.stdin).write(json.dumps(job) + "\n")
            _pipe(process.stdin).flush()
        except BrokenPipeError:
            return self._lost(process, 0, last)
        while True:
            line, late = _read_line(process, job["time_limit"])
            if not line.endswith("\n"):
                return self._lost(process, job["time_limit"] if late else 0, last)
            said = json.loads(line)
            if "done" in said:
                return dict(said["done"])
            last = said
            hear(said)

    def end(self) -> None:
        """Kill the process; a thread that waits for its answer gets `Lost`."""
        self._ended = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Release the process's resources."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    _pipe(pipe).close()
            self._process = None

    def _lost(self, process: "subprocess.Popen[str]", waited: float, last: Answer | None) -> Lost:
        code = process.wait()
        self.close()
        if waited:
            return Lost(f"decoding took longer than {waited:.0f} seconds", last)
        return Lost(f"the decoder crashed (exit code {code})", last)


def run_jobs(
    jobs: Iterable[Job],
    *,
    workers: int,
    hear: Callable[[Answer], None] = silent,
) -> Iterator[tuple[Job, Answer | Lost]]:
    """Yields (job, answer) for every job, in the order of completion.

    jobs: as `ga2clip.data.worker` expects them, each with `time_limit`: seconds until the next message. hear: see
    `Worker.ask`; called from several threads. The processes are ended when the caller stops, also by an error or
    Ctrl-C. Raises UserError when no process can be started.
    """
    idle = [Worker() for _ in range(workers)]
    everyone = list(idle)
    pending: dict[Future[Answer | Lost], tuple[Job, Worker]] = {}
    threads = ThreadPoolExecutor(workers)
    try:
        todo = iter(jobs)
        while True:
            while idle and (job := next(todo, None)) is not None:
                worker = idle.pop()
                pending[threads.submit(worker.ask, job, hear)] = (job, worker)
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                job, worker = pending.pop(future)
                idle.append(worker)
                yield job, future.result()
    finally:
        for worker in everyone:
            worker.end()
        threads.shutdown(cancel_futures=True)
        for worker in everyone:
            worker.close()


def _start() -> "subprocess.Popen[str]":
    """Start a worker in its own session, so that Ctrl-C only reaches the parent, which then ends the worker."""
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "ga2clip.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",
            start_new_session=True,
        )
    except OSError as error:
        raise UserError(f"cannot start a worker process: {error.strerror}", "use fewer --workers") from None


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # all of a worker's pipes are open
    return pipe


def _read_line(process: "subprocess.Popen[str]", limit: float) -> tuple[str, bool]:
    """The next line, and whether the process was killed because it exceeded the time limit."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit, kill)
    timer.start()
    try:
        return _pipe(process.stdout).readline(), late.is_set()
    finally:
        timer.cancel()
