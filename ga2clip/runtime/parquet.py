"""Features of videos as a Parquet file, for tables: a row per video, the features as lists. Needs the extra `parquet`.

Columns: `file`, `video` (D numbers, not normalised); with frame features also `frames` (lists of D numbers) and `times`
(seconds). Provenance is the schema's metadata `ga2clip`.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ga2clip.errors import MissingExtraError

_KEY = b"ga2clip"


def pyarrow() -> ModuleType:
    """The module. Raises MissingExtraError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("a Parquet file", "parquet") from None
    return pyarrow


def write_parquet(
    path: Path, parts: Iterable[Mapping[str, np.ndarray]], provenance: Mapping[str, Any]
) -> None:
    """Write parts as `embed` collects them, a row group each, so that one part is in memory at once."""
    pa = pyarrow()
    writer = None
    try:
        for part in parts:
            columns = {"file": pa.array(part["files"].tolist()), "video": _rows(pa, part["video"])}
            if "frames" in part:
                starts = np.concatenate([[0], np.cumsum(part["lengths"])]).astype(np.int32)
                columns["frames"] = pa.ListArray.from_arrays(starts, _rows(pa, part["frames"]))
                columns["times"] = pa.ListArray.from_arrays(starts, part["times"])
            table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(provenance)})
            writer = writer or pa.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def read_parquet(path: Path) -> dict[str, Any]:
    """The arrays of a file that `write_parquet` wrote, named as those of an .npz file.

    Raises:
        KeyError: it is another Parquet file.
        ValueError, OSError: it is damaged or missing.
    """
    table = pyarrow().parquet.read_table(path)
    arrays: dict[str, Any] = {
        "provenance": (table.schema.metadata or {})[_KEY].decode(),
        "files": np.array(table["file"].to_pylist()),
        "video": _matrix(table["video"]),
    }
    if "frames" in table.column_names:
        frames, lengths = _lists(table["frames"])
        times, same = _lists(table["times"])
        if not np.array_equal(lengths, same):
            raise ValueError("a video has another number of 'times' than of 'frames'")
        arrays["frames"], arrays["times"] = _matrix(frames), times.to_numpy()
        arrays["starts"] = np.concatenate([[0], np.cumsum(lengths)])
    return arrays


def _rows(pa: ModuleType, matrix: np.ndarray) -> Any:
    return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(matrix).reshape(-1), matrix.shape[1])


def _lists(column: Any) -> tuple[Any, np.ndarray]:
    """The items of a column of lists, all in one array, and the lengths of the lists. Raises ValueError."""
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if not hasattr(whole, "value_lengths") or whole.null_count:
        raise ValueError("a column of features has no list of numbers in every row")
    return whole.flatten(), whole.value_lengths().to_numpy()


def _matrix(column: Any) -> np.ndarray:
    """The numbers (N, D) of a column of N lists. Raises ValueError where they are of several lengths."""
    items, lengths = _lists(column)
    if (lengths != lengths[:1]).any():
        raise ValueError("lists of features are of several lengths")
    return items.to_numpy(zero_copy_only=False).reshape(len(lengths), -1)
