"""Predictions go in, a results file comes out (JSON, JSON Lines or CSV), which a later call can continue.

JSON Lines and CSV grow line by line, so that a killed batch keeps what it had; JSON is written when the batch
ends. A file that failed is not counted as done: a resumed batch tries it again.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from ga2clip.errors import UserError
from ga2clip.files import replacing, write_error, write_text
from ga2clip.predictions import Failure, Prediction, as_json
from ga2clip.video import find_videos

Format = Literal["json", "jsonl", "csv"]
_SUFFIXES: dict[str, Format] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv"}
_COLUMNS = ("file", "frames", "duration", "rank", "label", "probability", "error")


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, folders as `find_videos` finds the videos in them; no file twice.

    A missing file, and a folder without any video, are left for the decoder to report beside the others' answers.
    """
    found: list[Path] = []
    for path in paths:
        found += (find_videos(path) if path.is_dir() else []) or [path]
    return list(dict.fromkeys(found))


class ResultFile:
    """A results file that is being written; use it with `with`.

    format: None takes it from the suffix. resume: keep what the file holds; `done` says which files it
    answers. Errors: UserError for an unknown suffix, a file that can't be written, or one that can't be
    continued.
    """

    def __init__(
        self,
        out: Path,
        *,
        model: str,
        provider: str,
        format: Format | None = None,
        resume: bool = False,
    ) -> None:
        chosen = format or _SUFFIXES.get(out.suffix.lower())
        if chosen is None:
            raise UserError(f"cannot tell the format of {out}", f"end its name in {', '.join(_SUFFIXES)}")
        self._out, self._format, self._model, self._provider = out, chosen, model, provider
        self._kept = _read(out, chosen) if resume and out.exists() else []
        self._stream: TextIO | None = None
        self.done: frozenset[str] = frozenset(record["file"] for record in self._kept)
        """Files that an earlier batch answered."""

    def __enter__(self) -> "ResultFile":
        if self._format != "json":
            text = _header(self._format) + "".join(map(self._lines, self._kept))
            with replacing(self._out) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
            try:
                self._stream = self._out.open("a", encoding="utf-8", errors="surrogateescape", newline="")
            except OSError as error:
                raise write_error(self._out, error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream:
            self._stream.close()
        else:
            self._write_json()

    def add(self, part: Prediction | Failure) -> None:
        """Write one answer."""
        record = part.to_json()
        if self._stream is None:
            self._kept.append(record)
            return
        try:
            self._stream.write(self._lines(record))
            self._stream.flush()
        except OSError as error:
            raise write_error(self._out, error) from None

    def _lines(self, record: dict[str, Any]) -> str:
        return _csv_rows(record) if self._format == "csv" else json.dumps(record) + "\n"

    def _write_json(self) -> None:
        whole = as_json(self._model, self._provider, ())
        for record in self._kept:
            whole["errors" if "error" in record else "results"].append(record)
        write_text(self._out, json.dumps(whole, indent=1) + "\n")


def _header(kind: Format) -> str:
    return ",".join(_COLUMNS) + "\n" if kind == "csv" else ""


def _csv_rows(record: dict[str, Any]) -> str:
    head = [record["file"], record.get("frames", ""), record.get("duration", "")]
    rows: Sequence[list[Any]] = [
        [*head, rank, entry["label"], entry["probability"], ""]
        for rank, entry in enumerate(record.get("predictions", ()), start=1)
    ] or [[*head, "", "", "", record.get("error", "")]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read(path: Path, kind: Format) -> list[dict[str, Any]]:
    """The answered files of an earlier batch. Errors: UserError for a file that isn't one of ours."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        records = {"json": _from_json, "jsonl": _from_lines, "csv": _from_csv}[kind](text)
        return [record for record in records if record["file"] and "error" not in record]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"cannot continue {path}: {error}", "choose another file, or leave out --resume"
        ) from None


def _from_json(text: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(text)["results"]
    return results


def _from_lines(text: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in text.split("\n")[:-1]
    ]  # what follows the last line break was cut off


def _from_csv(text: str) -> list[dict[str, Any]]:
    """Records from rows; those of the last file are dropped, since the kill may have come between two rows."""
    rows = list(csv.DictReader(io.StringIO(text)))
    by_file: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_file.setdefault(row["file"], []).append(row)
    complete = [file for file in by_file if file != rows[-1]["file"]]
    return [_record(file, by_file[file]) for file in complete if not by_file[file][0]["error"]]


def _record(file: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    ranking = [{"label": row["label"], "probability": float(row["probability"])} for row in rows]
    first = rows[0]
    return {
        "file": file,
        "frames": int(first["frames"]),
        "duration": float(first["duration"]),
        "predictions": ranking,
    }
