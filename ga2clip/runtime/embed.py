"""Features of many videos in one .npz or Parquet file, written in constant memory and resumable.

While it is written, parts of 256 videos collect in the folder `OUT.parts`; a later call with the same model and options
continues there. At the end they are joined into one uncompressed archive, one array after the other, and removed.
"""

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import refuse_existing, replacing, write_text
from ga2clip.predictions import Failure
from ga2clip.runtime.model import Encoded
from ga2clip.runtime.npz import NPZ_ERRORS
from ga2clip.runtime.parquet import pyarrow, read_parquet, write_parquet
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.still import still_bound

_log = logging.getLogger(__name__)
_PART = 256
_PROVENANCE = "provenance.json"
_PARQUET = ".parquet"
_NAMED = "[0-9]*.npz"
"""Finished parts; a kill may leave the hidden file of one that was being written."""


@dataclass(frozen=True)
class Features:
    """The content of a file that `embed` wrote, for N videos.

    Attributes:
        files: N paths as they were given.
        video: float32 (N, D), not normalised.
        provenance: model, fingerprint, provider, frames per video, with frames the bound below which a frame counts as
            still, and the version of ga2clip.
        frames: float32 (F, D), the features of all sampled frames, video after video; None: not asked for.
        times: float64 (F,), seconds at which those are shown.
        starts: int64 (N + 1,); the frames of video n are `frames[starts[n]:starts[n + 1]]`.
    """

    files: tuple[str, ...]
    video: np.ndarray
    provenance: dict[str, Any]
    frames: np.ndarray | None = None
    times: np.ndarray | None = None
    starts: np.ndarray | None = None


def read_features(path: str | os.PathLike[str]) -> Features:
    """Read a file that `ga2clip embed` wrote. (`numpy.load` reads it, too.)

    Args:
        path: the .npz or .parquet file.

    Returns:
        Its content.

    Raises:
        UserError: the file is missing, damaged or of another kind.

    Example:
        >>> features = ga2clip.read_features("features.npz")
        >>> features.video.shape
        (1200, 512)
    """
    try:
        if Path(path).suffix.lower() == _PARQUET:
            arrays = read_parquet(Path(path))
        else:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        return Features(
            tuple(arrays.pop("files").tolist()),
            provenance=json.loads(str(arrays.pop("provenance"))),
            **arrays,
        )
    except NPZ_ERRORS as error:
        raise UserError(
            f"{os.fspath(path)} can't be read as features: {error}", "ga2clip embed writes them"
        ) from None


def embed(
    predictor: Predictor,
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    frames: bool = False,
    still: float | None = None,
    workers: int = 1,
    on_result: Callable[[Encoded | Failure], None] = lambda _: None,
) -> list[Failure]:
    """Write the features of videos to a file. Continues where an earlier call was stopped.

    Args:
        predictor: the model.
        paths: the videos.
        out: the .npz or .parquet file, which must not exist.
        frames: also write the features of the sampled frames, with their times.
        still: with `frames`, as `Predictor.encode_files` has it; 0: encode all frames. None: 1, or 0 for a model whose
            frames are not independent.
        workers: number of decoding threads.
        on_result: called with each result as it comes.

    Returns:
        The videos that can't be read, which the file leaves out; they are tried again when a call continues.

    Raises:
        UserError: `out` exists or is of another kind; a .parquet file without the extra `parquet`; what an earlier call
            left is of another model or other options; no video can be read.

    Example:
        >>> with ga2clip.Predictor("bundle") as predictor:
        ...     ga2clip.embed(predictor, Path("clips").glob("*.mp4"), "features.npz")
    """
    target = Path(out)
    if target.suffix.lower() not in (".npz", _PARQUET):
        raise UserError(f"features are written to an .npz or .parquet file, got {target}")
    if target.suffix.lower() == _PARQUET:
        pyarrow()  # before anything is encoded
    refuse_existing(target, "delete it first")
    bound = still_bound(predictor.model, still)
    files = list(dict.fromkeys(os.fspath(path) for path in paths))
    parts = target.with_name(f"{target.name}.parts")
    provenance = {
        "model": predictor.name,
        "model_sha256": predictor.fingerprint,
        "provider": predictor.provider,
        "frames": predictor.model.frames,
        "frame_features": frames,
        **({"still": bound} if frames else {}),
        "ga2clip": version("ga2clip"),
    }
    done = _begin(parts, provenance, files)
    failures: list[Failure] = []
    todo = [file for file in files if file not in done]
    waiting: list[Encoded] = []
    for result in predictor.encode_files(todo, frames=frames, still=bound, workers=workers):
        on_result(result)
        if isinstance(result, Failure):
            failures.append(result)
            continue
        waiting.append(result)
        if len(waiting) == _PART:
            _write_part(parts, waiting)
            waiting.clear()
    if waiting:
        _write_part(parts, waiting)
    if len(failures) == len(files):
        shutil.rmtree(parts)
        raise UserError(failures[0].error if failures else "there are no videos")
    if target.suffix.lower() == _PARQUET:
        with replacing(target) as temporary:
            write_parquet(temporary, _parts(parts), provenance)
    else:
        _join(parts, target, provenance)
    shutil.rmtree(parts)
    return failures


def _begin(parts: Path, provenance: dict[str, Any], files: Sequence[str]) -> set[str]:
    """The videos that an earlier call has encoded."""
    note = parts / _PROVENANCE
    if not note.exists():
        write_text(note, json.dumps(provenance))
    elif json.loads(note.read_text(encoding="utf-8")) != provenance:
        raise UserError(f"{parts} holds features of another model or other options", "delete it first")
    done = {file for part in _parts(parts) for file in part["files"].tolist()}
    if done - set(files):
        raise UserError(f"{parts} holds features of other videos", "delete it first")
    if done:
        _log.info("continuing: %d of %d videos are encoded", len(done), len(files))
    return done


def _parts(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.glob(_NAMED)):
        with np.load(path, allow_pickle=False) as part:
            yield part


def _write_part(folder: Path, results: Sequence[Encoded]) -> None:
    arrays = {
        "files": np.array([result.file for result in results]),
        "video": np.stack([result.video for result in results]),
        "lengths": np.array([len(result.times) for result in results]),
    }
    if results[0].frames is not None:
        arrays["frames"] = np.concatenate([result.frames for result in results if result.frames is not None])
        arrays["times"] = np.concatenate([result.times for result in results])
    with replacing(folder / f"{len(list(folder.glob(_NAMED))):08d}.npz") as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def _join(parts: Path, target: Path, provenance: dict[str, Any]) -> None:
    """One archive of all parts, in the order in which they were encoded. One array of a part is in memory at once."""
    names = [file for part in _parts(parts) for file in part["files"].tolist()]
    lengths = np.concatenate([part["lengths"] for part in _parts(parts)])
    whole = {
        "files": np.array(names),
        "provenance": np.array(json.dumps(provenance)),
        **({"starts": np.concatenate([[0], np.cumsum(lengths)])} if provenance["frame_features"] else {}),
    }
    keys = ("video", "frames", "times") if provenance["frame_features"] else ("video",)
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in whole.items():
            with archive.open(_member(name), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        for key in keys:
            rows = len(names) if key == "video" else int(lengths.sum())
            dtype, sides = next((part[key].dtype, part[key].shape[1:]) for part in _parts(parts))
            with archive.open(_member(key), "w", force_zip64=True) as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (rows, *sides),
                }
                np.lib.format.write_array_header_1_0(file, header)
                for part in _parts(parts):
                    file.write(np.ascontiguousarray(part[key]).tobytes())


def _member(name: str) -> zipfile.ZipInfo:
    """Of a fixed date, so that equal features make equal files."""
    return zipfile.ZipInfo(f"{name}.npy")
