"""Class texts go in; the features (D,) that were computed for them before come out: a small SQLite file per
text encoder.

SQLite, because several processes may predict at once and a crash must not leave half a feature.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

_log = logging.getLogger(__name__)
_PER_QUERY = 500  # SQLite limits the placeholders of a statement
_WAIT = 5.0


class FeatureCache:
    """Features of texts under one encoder's fingerprint. A cache that can't be used is reported once and
    then left alone.

    width: D. Features are float32 and finite; anything else in the file is ignored and computed again.
    """

    def __init__(self, fingerprint: str, width: int) -> None:
        self.path = _cache_folder() / "text" / f"{fingerprint}.sqlite"
        self._width = width
        self._usable = True

    def get(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """The known ones of the texts, with their features float32 (D,)."""
        wanted = list(texts)
        if not self._usable or not self.path.exists():
            return {}
        found: dict[str, np.ndarray] = {}
        try:
            with closing(self._connect()) as connection:
                for start in range(0, len(wanted), _PER_QUERY):
                    part = wanted[start : start + _PER_QUERY]
                    marks = ",".join("?" * len(part))
                    rows = connection.execute(
                        f"SELECT text, feature FROM features WHERE text IN ({marks})", part
                    )
                    found.update(
                        {
                            text: np.frombuffer(blob, np.float32)
                            for text, blob in rows
                            if isinstance(blob, bytes) and len(blob) == 4 * self._width
                        }
                    )
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
        return {text: feature for text, feature in found.items() if np.isfinite(feature).all()}

    def put(self, features: Mapping[str, np.ndarray]) -> None:
        """Remember features float32 (D,) by text."""
        if not self._usable or not features:
            return
        rows = [
            (text, np.ascontiguousarray(feature, np.float32).tobytes()) for text, feature in features.items()
        ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT)
        # In every connection, since another process may have made the file a moment ago and not yet its table.
        connection.execute("CREATE TABLE IF NOT EXISTS features (text TEXT PRIMARY KEY, feature BLOB)")
        return connection

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        _log.warning(
            "the cache of class features %s cannot be used (%s); they are computed instead", self.path, error
        )


def _cache_folder() -> Path:
    """`$GA2CLIP_CACHE`, else `ga2clip` in the user's cache folder (XDG base directories; LOCALAPPDATA on
    Windows).
    """
    if own := os.environ.get("GA2CLIP_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "ga2clip"
