"""The folder in which `embed` collects the features of videos, 256 in a part, so that a later call can go on.

A part is kept as long as it is whole and its videos are the files that were encoded: of the same size and time of
change. Others are encoded anew, all videos of the part. A note says which model and options the parts are of.
"""

import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import replacing, write_text, writing
from ga2clip.runtime.model import Encoded
from ga2clip.runtime.npz import NPZ_ERRORS
from ga2clip.text import counted, printable

_log = logging.getLogger(__name__)
_NOTE = "provenance.json"
_NAMED = "[0-9]*.npz"
"""Finished parts; a kill may leave the hidden file of one that was being written."""

State = tuple[int, int]
"""Size of a file in bytes, and time of its last change in nanoseconds."""


def file_state(file: str) -> State | None:
    """The state of a file; None: there is none, or it can't be asked."""
    try:
        info = os.stat(file)
    except (OSError, ValueError):
        return None
    return info.st_size, info.st_mtime_ns


def begin_parts(folder: Path, provenance: Mapping[str, Any], files: Sequence[str]) -> set[str]:
    """Begin a folder of parts, or go on in one.

    Args:
        folder: the folder, which may exist.
        provenance: what the features are of, as JSON holds it.
        files: the videos that are asked for.

    Returns:
        The videos of the parts that are kept. Other parts are removed, with a warning that says why.

    Raises:
        UserError: it holds features of another model, other options or other videos, or its note can't be read.
    """
    parts = _begun(folder, provenance)
    wanted, done = set(files), set[str]()
    anew: dict[Path, str] = {}
    for path in parts:
        try:
            states = _states(path, frames=provenance["frame_features"])
        except NPZ_ERRORS:
            anew[path] = f"{path} is damaged; encoding its videos anew"
            continue
        now = {file: file_state(file) for file in states}
        if any(now[file] and file not in wanted for file in states):
            raise UserError(f"{folder} holds features of other videos", "delete it first")
        changed = [file for file, state in states.items() if now[file] != state]
        if changed or done & states.keys():
            why = f"{changed[0]} changed or is gone" if changed else "it has a video of another part"
            anew[path] = f"{path}: {why}; encoding {counted(len(states), 'video')} of this part anew"
        else:
            done |= states.keys()
    for path, why in anew.items():
        _log.warning(printable(why))
        _remove(path, folder)
    if done:
        _log.info("continuing: %d of %d videos are encoded", len(done), len(files))
    return done


def read_parts(folder: Path) -> Iterator[Any]:
    """Parts in the order of their numbers: mappings of names to arrays, which are read when they are asked for."""
    for path in _named(folder):
        with np.load(path, allow_pickle=False) as part:
            yield part


def write_part(folder: Path, results: Sequence[Encoded], states: Mapping[str, State | None]) -> None:
    """Write a part, with the first number that is free. states: of its files, before they were encoded."""
    arrays = {
        "files": np.array([result.file for result in results]),
        "states": np.array([states[result.file] or (-1, -1) for result in results], np.int64),
        "video": np.stack([result.video for result in results]),
        "lengths": np.array([len(result.times) for result in results]),
    }
    if results[0].frames is not None:
        arrays["frames"] = np.concatenate([result.frames for result in results if result.frames is not None])
        arrays["times"] = np.concatenate([result.times for result in results])
    with writing(folder):
        taken = set(os.listdir(folder))
    free = next(name for n in itertools.count() if (name := f"{n:08d}.npz") not in taken)
    with replacing(folder / free) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def check_rows(
    files: np.ndarray,
    video: np.ndarray,
    lengths: np.ndarray | None = None,
    frames: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> None:
    """Raises ValueError where arrays are not of the same N videos (and F frames).

    files: text (N,). video: float32 (N, D). lengths: integers (N,), frames of each video. frames: float32 (F, D).
    times: float64 (F,).
    """
    if files.ndim != 1 or files.dtype.kind != "U":
        raise ValueError("'files' are no list of names")
    if video.ndim != 2 or video.dtype != np.float32 or len(video) != len(files):
        raise ValueError(
            f"'video' is {video.dtype} {video.shape}, which is no row for each of {len(files)} files"
        )
    if lengths is None:
        return
    if lengths.shape != files.shape or lengths.dtype.kind != "i" or (lengths < 0).any():
        raise ValueError(f"there are no numbers of frames for each of {len(files)} files")
    for name, array, shape in (("frames", frames, video.shape[1:]), ("times", times, ())):
        if array is not None and array.shape != (lengths.sum(), *shape):
            raise ValueError(f"'{name}' are {array.shape}, which are not {lengths.sum()} frames")


def _begun(folder: Path, provenance: Mapping[str, Any]) -> list[Path]:
    """The finished parts of the folder. Its note is checked, or, in a new folder, written."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is not a folder", "delete it first")
    parts, note = _named(folder), folder / _NOTE
    if not parts and not note.exists():
        write_text(note, json.dumps(provenance))
        return []
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(
            f"{note} is damaged or missing, so nobody knows what the features beside it are of",
            f"delete {folder}; all videos are encoded anew then",
        ) from None
    if before != provenance:
        raise UserError(f"{folder} holds features of another model or other options", "delete it first")
    return parts


def _named(folder: Path) -> list[Path]:
    return sorted(folder.glob(_NAMED))


def _states(path: Path, *, frames: bool) -> dict[str, State]:
    """The states of a part's files when they were encoded. Raises any of `NPZ_ERRORS` unless all of it can be read."""
    names = ("states", "files", "video", "lengths", *(("frames", "times") if frames else ()))
    with np.load(path, allow_pickle=False) as part:
        # A member that is no array comes as bytes.
        states, files, *rows = (np.asarray(part[name]) for name in names)
    check_rows(files, *rows)
    if states.shape != (len(files), 2) or len(set(files.tolist())) != len(files):
        raise ValueError("it has no state for each file")
    return {file: (size, time) for file, (size, time) in zip(files.tolist(), states.tolist(), strict=True)}


def _remove(part: Path, folder: Path) -> None:
    try:
        part.unlink()
    except OSError as error:
        raise UserError(f"cannot remove {part}: {error.strerror or error}", f"delete {folder}") from None
