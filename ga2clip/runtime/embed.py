"""Features of many videos in one .npz or Parquet file, written in constant memory and resumable.

While it is written, parts of 256 videos collect in the folder `OUT.parts` (`embed_parts`); a later call with the same
model and options continues there. At the end they are joined into one uncompressed archive, one array after the other,
and removed.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import refuse_existing, replacing
from ga2clip.labels import is_unicode
from ga2clip.predictions import Failure
from ga2clip.runtime.embed_parts import begin_parts, check_rows, file_state, read_parts, write_part
from ga2clip.runtime.model import Encoded
from ga2clip.runtime.npz import NPZ_ERRORS
from ga2clip.runtime.parquet import pyarrow, read_parquet, write_parquet
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.still import still_bound
from ga2clip.text import printable

_PART = 256
_PARQUET = ".parquet"


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
                # A member that is no array comes as bytes.
                arrays = {name: np.asarray(archive[name]) for name in archive.files}
        provenance = json.loads(str(arrays.pop("provenance")))
        if not isinstance(provenance, dict):
            raise ValueError("its provenance is no JSON object")
        _fit_together(**arrays)
        return Features(tuple(arrays.pop("files").tolist()), provenance=provenance, **arrays)
    except NPZ_ERRORS as error:
        raise UserError(
            f"{os.fspath(path)} can't be read as features: {error}", "ga2clip embed writes them"
        ) from None


def _fit_together(
    files: np.ndarray,
    video: np.ndarray,
    frames: np.ndarray | None = None,
    times: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> None:
    """Raises ValueError for arrays that are not of the same videos, TypeError or IndexError for other arrays."""
    if frames is None and times is None and starts is None:
        check_rows(files, video)
    elif frames is None or times is None or starts is None:
        raise ValueError("of 'frames', 'times' and 'starts' it lacks some")
    elif starts.ndim != 1 or starts[0] != 0:
        raise ValueError("'starts' are no row of numbers from 0 on")
    else:
        check_rows(files, video, np.diff(starts), frames, times)


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
    """Write the features of videos to a file. Continues where an earlier call was stopped; videos that changed since
    are encoded anew.

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
        UserError: `out` exists or is of another kind; a .parquet file without the extra `parquet`, or for names that
            are not UTF-8; what an earlier call left is of another model, other options or other videos, or its note is
            damaged; no video can be read.

    Example:
        >>> with ga2clip.Predictor("bundle") as predictor:
        ...     ga2clip.embed(predictor, Path("clips").glob("*.mp4"), "features.npz")
    """
    target = Path(out)
    files = list(dict.fromkeys(os.fspath(path) for path in paths))
    _check_target(target, files)
    bound = still_bound(predictor.model, still)
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
    done = begin_parts(parts, provenance, files)
    failures: list[Failure] = []
    todo = [file for file in files if file not in done]
    states = {file: file_state(file) for file in todo}
    waiting: list[Encoded] = []
    for result in predictor.encode_files(todo, frames=frames, still=bound, workers=workers):
        on_result(result)
        if isinstance(result, Failure):
            failures.append(result)
            continue
        waiting.append(result)
        if len(waiting) == _PART:
            write_part(parts, waiting, states)
            waiting.clear()
    if waiting:
        write_part(parts, waiting, states)
    if len(failures) == len(files):
        shutil.rmtree(parts)
        raise UserError(failures[0].error if failures else "there are no videos")
    if target.suffix.lower() == _PARQUET:
        with replacing(target) as temporary:
            write_parquet(temporary, read_parts(parts), provenance)
    else:
        _join(parts, target, provenance)
    shutil.rmtree(parts)
    return failures


def _check_target(target: Path, files: Sequence[str]) -> None:
    """Raises UserError, before anything is encoded, where features of these files can't be written to `target`."""
    if target.suffix.lower() not in (".npz", _PARQUET):
        raise UserError(f"features are written to an .npz or .parquet file, got {target}")
    if target.suffix.lower() == _PARQUET:
        pyarrow()
        for file in files:
            if not is_unicode(file):
                raise UserError(
                    f"{printable(file)}: its name is not UTF-8, and a Parquet file holds no other names",
                    "rename it, or write an .npz file",
                )
    refuse_existing(target, "delete it first")


def _join(parts: Path, target: Path, provenance: dict[str, Any]) -> None:
    """One archive of all parts, in the order in which they were encoded. One array of a part is in memory at once."""
    names = [file for part in read_parts(parts) for file in part["files"].tolist()]
    lengths = np.concatenate([part["lengths"] for part in read_parts(parts)])
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
            dtype, sides = next((part[key].dtype, part[key].shape[1:]) for part in read_parts(parts))
            with archive.open(_member(key), "w", force_zip64=True) as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (rows, *sides),
                }
                np.lib.format.write_array_header_1_0(file, header)
                for part in read_parts(parts):
                    file.write(np.ascontiguousarray(part[key]).tobytes())


def _member(name: str) -> zipfile.ZipInfo:
    """Of a fixed date, so that equal features make equal files."""
    return zipfile.ZipInfo(f"{name}.npy")
