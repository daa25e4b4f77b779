"""A cache on disk of class-text features: one small SQLite file per origin.

The origin is everything beside the text that influences a feature (`text.origin`: bundle files, provider, …). The file
is named by the hash of its origin and also stores it; each row has a hash over origin, text and feature. A file or row
whose hashes don't match is ignored. SQLite, because several processes may write at once and a crash must not leave a
partial row.
"""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.errors import UserError
from ga2clip.folders import user_cache
from ga2clip.text import counted

_log = logging.getLogger(__name__)
_PER_QUERY = 500  # SQLite limits the placeholders of a statement
_WAIT = 5.0
_LENGTH_ERROR = 1e-3
_OLD = "it is of an older version and never read"


class FeatureCache:
    """The cached features of one origin. If the file can't be used, one warning is logged and nothing is cached.

    origin: a mapping that JSON can hold. width: D. Features are float32 (D,), L2-normalised; other rows are ignored.
    """

    def __init__(self, origin: Mapping[str, Any], width: int) -> None:
        self._origin = json.dumps(origin, sort_keys=True)
        self._key = _hash(self._origin)
        self.path = cache_folder() / f"{self._key}.sqlite"
        self._width = width
        self._usable = True

    def get(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """The features float32 (D,) of those texts that are in the cache, by text."""
        wanted = list(texts)
        if not self._usable or not self.path.exists():
            return {}
        rows: list[tuple[Any, Any, Any]] = []
        try:
            with closing(self._connect()) as connection:
                for start in range(0, len(wanted), _PER_QUERY):
                    part = wanted[start : start + _PER_QUERY]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT text, feature, hash FROM features WHERE text IN ({marks})"
                    rows += connection.execute(query, part)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self._give_up(error)
        valid = {row[0]: row[1] for row in rows if _row_fault(self._key, row, self._width) is None}
        if len(valid) < len(rows):
            _log.warning(
                "%d of %d features in %s are damaged: computed again",
                len(rows) - len(valid),
                len(rows),
                self.path,
            )
        return {text: np.frombuffer(blob, np.float32) for text, blob in valid.items()}

    def put(self, features: Mapping[str, np.ndarray]) -> None:
        """Store features float32 (D,) by text."""
        if not self._usable or not features:
            return
        blobs = {text: np.ascontiguousarray(row, np.float32).tobytes() for text, row in features.items()}
        rows = [(text, blob, _row_hash(self._key, text, blob)) for text, blob in blobs.items()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT)
        # Run on every connection: another process may have created the file but not yet its tables.
        connection.execute(
            "CREATE TABLE IF NOT EXISTS features (text TEXT PRIMARY KEY, feature BLOB, hash TEXT)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS origin (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT)"
        )
        if connection.execute("SELECT json FROM origin").fetchone() is None:
            with connection:
                connection.execute("INSERT OR IGNORE INTO origin VALUES (1, ?)", (self._origin,))
        if connection.execute("SELECT json FROM origin").fetchone() != (self._origin,):
            connection.close()
            raise sqlite3.DatabaseError("it was written for another bundle")
        return connection

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        _log.warning(
            "the cache of class features %s cannot be used (%s); they are computed instead", self.path, error
        )


@dataclass(frozen=True)
class CacheFile:
    """A file of the cache: its number of features, its size in bytes, and what is wrong with it (None: nothing)."""

    path: Path
    features: int
    bytes: int
    fault: str | None


def check_cache() -> list[CacheFile]:
    """Check every file and row of the cache as `FeatureCache.get` does; changes nothing."""
    return [_check(path) for path in _files()]


def clear_cache() -> tuple[int, int]:
    """Delete the cache's files; returns their number and total bytes. Raises UserError when one can't be deleted."""
    files = list(_files())
    size = 0
    for path in files:
        size += path.stat().st_size
        try:
            path.unlink()
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot delete {path}: {error.strerror}") from None
    return len(files), size


def cache_folder() -> Path:
    """The folder of the cache's files."""
    return user_cache() / "text"


def _files() -> Iterator[Path]:
    return iter(sorted(cache_folder().glob("*.sqlite")))


def _check(path: Path) -> CacheFile:
    size = path.stat().st_size
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT)
        ) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "origin" not in tables:
                return CacheFile(path, 0, size, _OLD)
            ((origin,),) = connection.execute("SELECT json FROM origin")
            rows = list(connection.execute("SELECT text, feature, hash FROM features"))
        width = int(json.loads(origin)["embedding"])
    except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
        return CacheFile(path, 0, size, f"it cannot be read: {error}")
    if path.name != f"{_hash(origin)}.sqlite":
        return CacheFile(path, len(rows), size, "its name is not the hash of the origin that it holds")
    faults = [fault for row in rows if (fault := _row_fault(path.stem, row, width))]
    return CacheFile(
        path, len(rows), size, f"{counted(len(faults), 'feature')}: {faults[0]}" if faults else None
    )


def _row_fault(key: str, row: tuple[Any, Any, Any], width: int) -> str | None:
    """Why a row (text, feature, hash) is invalid for an origin's hash `key`; None when it is valid."""
    text, blob, digest = row
    if not isinstance(text, str) or not isinstance(blob, bytes) or len(blob) != 4 * width:
        return f"not {width} numbers"
    if digest != _row_hash(key, text, blob):
        return "changed since it was written"
    length = float(np.linalg.norm(np.frombuffer(blob, np.float32).astype(np.float64)))
    return (
        None if abs(length - 1) <= _LENGTH_ERROR else "not of length 1"
    )  # also where a number is not finite


def _row_hash(key: str, text: str, blob: bytes) -> str:
    return _hash(key, text, blob.hex())


def _hash(*parts: str) -> str:
    """SHA-256 of several texts; ("ab", "c") and ("a", "bc") give different hashes."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
