"""Decodes every clip of a folder once and keeps the results (frames, duration, errors) in a journal.

Each result is written to the journal at once, so that an interrupted run continues where it stopped. A clip is decoded
again only if its size or modification time has changed.
"""

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from ga2clip.data.manifest import WORK_FOLDER, Count, Seconds
from ga2clip.data.pool import Job, Lost, run_jobs, silent
from ga2clip.errors import UserError
from ga2clip.files import write_error

_JOURNAL = "checked.jsonl"
GRACE = 10.0
"""Seconds from the decoder's own time limit until its process is killed."""
_MEGABYTE = 2**20


@dataclass(frozen=True)
class Checked:
    """The result of decoding a clip. size: bytes; changed: modification time in ns; error: "" if it has a frame."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    path: str
    size: Count
    changed: Annotated[int, Field(strict=True)]
    frames: Count = 0
    duration: Seconds = 0.0
    width: Count = 0
    height: Count = 0
    sha256: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    steps: tuple[Count, ...] = ()
    """Milliseconds from each frame to the next, for files whose spans are clips; else empty."""

    def frames_of(self, span: tuple[float, float]) -> tuple[int, int]:
        """The number of the first frame of a span in seconds, and how many frames it has; see `Clip.span`."""
        times = np.cumsum([0, *self.steps])[: self.frames]
        first, last = np.searchsorted(times, [round(1000 * border) for border in span])
        return int(first), int(last - first)


_RESULT = TypeAdapter(Checked)


def time_limit(size: int) -> float:
    """The time limit in seconds for decoding a file of `size` bytes: two minutes, more for large files."""
    return 120.0 + 2.0 * size / _MEGABYTE


def file_time_limit(path: Path) -> float:
    """The `time_limit` of a file. Used wherever clips are read, so that a clip accepted by `prepare` can be read."""
    return time_limit(file_stamp(path)[0])


def check_clips(
    root: Path,
    paths: Sequence[str],
    *,
    workers: int,
    recheck: bool = False,
    timed: Collection[str] = (),
    progress: Callable[[int, int], None] = silent,
) -> dict[str, Checked]:
    """Decode every file that is not in the journal; path → result, in the order of `paths`.

    recheck: also decode broken clips again. They may have failed because of the disk, a busy machine or an older
    decoder, which the file's modification time doesn't show. timed: paths whose `steps` are needed. progress: called
    with (clips done, clips in all).
    Raises UserError when the journal can't be written.
    """
    known = _read_journal(root / WORK_FOLDER / _JOURNAL)
    stamps = {path: file_stamp(root / path) for path in paths}
    results = {
        path: known[path]
        for path in paths
        if path in known
        and (known[path].size, known[path].changed) == stamps[path]
        and not (recheck and known[path].error)
        and not (path in timed and len(known[path].steps) < known[path].frames - 1)
    }
    progress(len(results), len(paths))
    todo = [path for path in paths if path not in results]
    for result in _decode(root, todo, stamps, workers, timed):
        results[result.path] = result
        progress(len(results), len(paths))
    return {path: results[path] for path in paths}


def _decode(
    root: Path,
    paths: Sequence[str],
    stamps: dict[str, tuple[int, int]],
    workers: int,
    timed: Collection[str],
) -> Iterable[Checked]:
    if not paths:
        return
    journal = root / WORK_FOLDER / _JOURNAL
    jobs = (_job(root / path, stamps[path][0]) | {"times": path in timed} for path in paths)
    by_file = {os.fspath(root / path): path for path in paths}
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        _end_last_line(journal)
        with journal.open("a", encoding="ascii") as lines:
            for job, answer in run_jobs(jobs, workers=workers):
                outcome = {"error": answer.reason} if isinstance(answer, Lost) else answer
                path = by_file[job["path"]]
                size, changed = stamps[path]
                result = _RESULT.validate_python({"path": path, "size": size, "changed": changed, **outcome})
                lines.write(json.dumps(asdict(result)) + "\n")
                lines.flush()
                yield result
    except OSError as error:
        raise write_error(journal, error) from error


def _job(path: Path, size: int) -> Job:
    limit = time_limit(size)
    return {"job": "check", "path": os.fspath(path), "decode_limit": limit, "time_limit": limit + GRACE}


def _read_journal(journal: Path) -> dict[str, Checked]:
    """The journal's results; incomplete or damaged lines (after a kill) are skipped."""
    results: dict[str, Checked] = {}
    try:
        text = journal.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return results
    except OSError as error:
        raise UserError(f"cannot read {journal}: {error.strerror}") from None
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            result = _RESULT.validate_python(json.loads(line))
            results[result.path] = result
    return results


def _end_last_line(journal: Path) -> None:
    """End an incomplete last line, so that the next line is not appended to it."""
    with journal.open("ab+") as file:
        if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
            file.write(b"\n")


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; zeros for a missing file."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)
