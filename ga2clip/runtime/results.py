"""Results files of `predict` (JSON, JSON Lines or CSV) that a later batch can continue with `--resume`.

JSON Lines and CSV are written line by line, so that a killed batch keeps what it had; JSON is written when the batch
ends. Every record has fingerprints of the model and the question. A line of JSON is complete and has a check sum, since
damage may leave JSON; the CSV rows of a video are complete when the last `rank` equals `count`, without a check sum,
since spreadsheets round their numbers. Videos that failed are tried again.
"""

import csv
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ga2clip.choices import ScoringRule
from ga2clip.errors import UserError
from ga2clip.files import (
    Unbuffered,
    is_stream,
    open_append,
    open_stream,
    refuse_existing,
    replacing,
    write_error,
)
from ga2clip.predictions import Asked, Failure, Prediction, as_json
from ga2clip.text import csv_lines, csv_value
from ga2clip.video import find_videos

Format = Literal["json", "jsonl", "csv"]
_SUFFIXES: dict[str, Format] = {".json": "json", ".jsonl": "jsonl", ".csv": "csv"}
_ASKED = Asked.ALWAYS
_COLUMNS = ("file", "frames", "duration", "rank", "count", "label", "probability", "error", *_ASKED)
_NEW = "choose another file, or leave out --resume"

_Record = dict[str, Any]
"""One video as JSON: `Prediction.to_json` or `Failure.to_json`, joined with `Asked.to_json`."""


class _Entry(BaseModel):
    model_config = ConfigDict(defer_build=True)  # built where a batch is continued
    label: str
    probability: float


class _Answer(BaseModel):
    """What the record of an answered file must hold."""

    model_config = ConfigDict(allow_inf_nan=False, defer_build=True)
    file: str
    frames: int
    duration: float
    predictions: list[_Entry]


class _Error(BaseModel):
    """What the record of a file that failed must hold."""

    model_config = ConfigDict(defer_build=True)
    file: str
    error: str


def expand(paths: Iterable[Path]) -> list[Path]:
    """The given files, and for each folder the videos in it (`find_videos`); no file twice.

    A missing file or a folder without videos stays in the list: the decoder reports it beside the other answers.
    """
    files: list[Path] = []
    for path in paths:
        files += (find_videos(path) if path.is_dir() else []) or [path]
    return list(dict.fromkeys(files))


class ResultFile:
    """A results file that is being written; use it with `with`.

    Args:
        out: the file, or a device or pipe. Without `resume`, a file that is not empty is an error.
        model: readable name of the model.
        provider: where it runs.
        asked: fingerprints of the model and the question.
        format: None takes it from the suffix.
        scoring: `Predictor.scoring`, for the JSON.
        resume: keep the complete answers in the file; incomplete records and failures are dropped and asked again.

    Raises:
        UserError: the suffix is unknown; the file exists or can't be written; or it can't be continued because it is
            not a results file, is damaged, or answers another question.
    """

    def __init__(
        self,
        out: Path,
        *,
        model: str,
        provider: str,
        asked: Asked,
        format: Format | None = None,
        resume: bool = False,
        scoring: ScoringRule = "softmax",
    ) -> None:
        chosen = format or _SUFFIXES.get(out.suffix.lower())
        if chosen is None:
            raise UserError(f"cannot tell the format of {out}", f"end its name in {', '.join(_SUFFIXES)}")
        self.out = out
        self._format, self._model, self._provider, self._asked = chosen, model, provider, asked
        if not resume:
            refuse_existing(out, f"continue it with --resume {out}, or delete it first")
        records = _read(out, chosen, asked) if resume else []
        answered = {record["file"]: record for record in records if "error" not in record}
        self._records = list(answered.values())
        self._places: list[int] = []
        self._scoring = scoring
        self._order: dict[str, int] = {}
        self._stream: Unbuffered | None = None
        self.done: frozenset[str] = frozenset(answered)
        """Names of the videos that an earlier batch answered."""

    def set_order(self, files: Iterable[str]) -> None:
        """Set the order of the answers: when the batch ends without an error, the file is sorted like `files`."""
        self._order = {file: place for place, file in enumerate(files)}

    def __enter__(self) -> "ResultFile":
        self._places = [self._place(record) for record in self._records]
        if self._format == "json":
            return self
        try:
            if is_stream(self.out):
                self._stream = open_stream(self.out)
                self._stream.write(self._as_bytes(self._records))
            else:
                self._write_whole(self._as_bytes(self._records))
                self._stream = open_append(self.out)
        except OSError as error:
            raise write_error(self.out, error) from None
        self._records = []  # they are already in the file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is None:
            self._records.sort(key=self._place)
            self._write_whole(self._as_bytes(self._records))
            return
        self._stream.close()
        in_order = all(a <= b for a, b in zip(self._places, self._places[1:], strict=False))
        if kind is None and not in_order and not is_stream(self.out):
            records = sorted(_read(self.out, self._format, self._asked), key=self._place)
            self._write_whole(self._as_bytes(records))

    def add(self, part: Prediction | Failure) -> None:
        """Write one answer. Raises UserError when it can't be written; earlier answers are kept."""
        record = part.to_json() | self._asked.to_json()
        self._places.append(self._place(record))
        if self._stream is None:
            self._records.append(record)
            return
        try:
            self._stream.write(_encoded(_lines(self._format, [record])))
        except OSError as error:
            hint = None if is_stream(self.out) else f"free some space, then continue with --resume {self.out}"
            raise write_error(self.out, error, hint) from None

    def _place(self, record: _Record) -> int:
        """The position of a record's file in the batch; -1 for files that are not in the batch."""
        return self._order.get(record["file"], -1)

    def _as_bytes(self, records: Sequence[_Record]) -> bytes:
        if self._format != "json":
            return _encoded(_header(self._format) + _lines(self._format, records))
        whole = as_json(self._model, self._provider, (), self._asked, self._scoring)
        for record in records:
            part = {key: value for key, value in record.items() if key not in (*_ASKED, *Asked.WHERE_ASKED)}
            whole["errors" if "error" in record else "results"].append(part)
        return _encoded(json.dumps(whole, indent=1) + "\n")

    def _write_whole(self, data: bytes) -> None:
        with replacing(self.out) as temporary:
            temporary.write_bytes(data)


def _encoded(text: str) -> bytes:
    """The text as UTF-8; bytes of file names that are not UTF-8 are written unchanged."""
    return text.encode("utf-8", "surrogateescape")


def _header(kind: Format) -> str:
    return ",".join(_COLUMNS) + "\n" if kind == "csv" else ""


def _lines(kind: Format, records: Iterable[_Record]) -> str:
    return "".join(csv_lines(_rows(r)) if kind == "csv" else _json_line(r) for r in records)


def _json_line(record: _Record) -> str:
    return json.dumps(record | {"check": _check_sum(record)}) + "\n"


def _check_sum(record: _Record) -> str:
    """CRC-32 of the record's JSON as Python writes it (ASCII, without the check itself), 8 hexadecimal digits."""
    return f"{zlib.crc32(json.dumps(record).encode('ascii')):08x}"


def _rows(record: _Record) -> list[list[Any]]:
    """One CSV row per rank, each with the number of rows as `count`; a failure is one row with count 0."""
    file = [record["file"], record.get("frames", ""), record.get("duration", "")]
    asked = [record[key] for key in _ASKED]
    ranking = record.get("predictions", ())
    if not ranking:
        return [[*file, "", 0, "", "", record.get("error", ""), *asked]]
    return [
        [*file, rank, len(ranking), entry["label"], entry["probability"], "", *asked]
        for rank, entry in enumerate(ranking, start=1)
    ]


def _read(path: Path, kind: Format, asked: Asked) -> list[_Record]:
    """All complete records of an earlier batch, failures too, in the order of the file.

    Raises UserError for a file that isn't one of ours, is damaged, or answers another question.
    """
    if is_stream(path):
        raise UserError(f"cannot continue {path}: it is not a regular file", "leave out --resume")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", _NEW) from None
    try:
        records = list({"json": _from_json, "jsonl": _from_lines, "csv": _from_csv}[kind](data))
    except (ValueError, csv.Error, RecursionError) as error:
        raise UserError(f"cannot continue {path}: {error}", _NEW) from None
    for record in records:
        _check_question(path, record, asked)
    return records


def _check_question(path: Path, record: _Record, asked: Asked) -> None:
    what = asked.differs(record)
    if what is not None:
        raise UserError(
            f"cannot continue {path}: its answers come from another {what}",
            f"continue it with the {what} that it was started with, or write into another file",
        )


def _checked(record: Any, where: str) -> _Record:
    """The record, validated. Raises ValueError when it is not an answer of ours."""
    try:
        kind = _Error if isinstance(record, dict) and "error" in record else _Answer
        kind.model_validate(record, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the line"
        raise ValueError(f"{where}: {place}: {first['msg']}") from None
    if missing := [key for key in _ASKED if key not in record]:
        raise ValueError(f"{where} lacks '{missing[0]}', the fingerprint of the model or the question")
    checked: _Record = record
    return checked


def _from_json(data: bytes) -> list[_Record]:
    if not data:
        return []
    whole = json.loads(data)
    if not isinstance(whole, dict) or not isinstance(whole.get("results"), list):
        raise ValueError("it is not an object with 'results'")
    asked = {key: whole[key] for key in (*_ASKED, *Asked.WHERE_ASKED) if key in whole}
    return [
        _checked(part | asked if isinstance(part, dict) else part, f"result {number}")
        for number, part in enumerate(whole["results"], start=1)
    ]


def _from_lines(data: bytes) -> Iterator[_Record]:
    lines = data.split(b"\n")
    _refuse_foreign(
        lines.pop(), b'{"file": ', alone=not lines
    )  # what follows the last line break was cut off
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            raise ValueError(f"line {number} is not JSON") from None
        check = record.pop("check", None) if isinstance(record, dict) else None
        checked = _checked(record, f"line {number}")
        if check != _check_sum(checked):
            raise ValueError(f"line {number} is damaged: it is not as its 'check' says")
        yield checked


def _from_csv(data: bytes) -> Iterator[_Record]:
    """A record for each video whose rows have the ranks from 1 to `count`; incomplete videos are left out."""
    data = data.removeprefix(b"\xef\xbb\xbf")  # spreadsheets put this mark before UTF-8
    end = _end_of_rows(data)
    _refuse_foreign(data[end:], _encoded(_header("csv")), alone=not end)
    text = io.StringIO(data[:end].decode("utf-8", "surrogateescape"), newline="")
    rows = csv.reader(text, strict=True)
    head = next(rows, list(_COLUMNS))
    if tuple(head) != _COLUMNS:
        raise ValueError(f"its columns are {','.join(head)}, not {','.join(_COLUMNS)}")
    ranking: list[dict[str, str]] = []
    for cells in rows:
        where = f"line {rows.line_num}"
        if len(cells) != len(_COLUMNS):
            raise ValueError(f"{where} has {len(cells)} cells, not {len(_COLUMNS)}")
        row = dict(zip(_COLUMNS, map(csv_value, cells), strict=True))
        if row["count"] == "0":
            yield _checked(_record([row], ()), where)
            continue
        if int(row["rank"]) == 1 or not ranking or row["file"] != ranking[0]["file"]:
            ranking = []
        ranking.append(row)
        count = int(row["count"])
        if len(ranking) == count and all(int(r["rank"]) == rank for rank, r in enumerate(ranking, start=1)):
            yield _checked(_record(ranking, ranking), where)


def _end_of_rows(data: bytes) -> int:
    """The offset behind the last complete row: behind the last line break outside quotes."""
    end = data.rfind(b"\n") + 1
    while data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _refuse_foreign(rest: bytes, beginning: bytes, *, alone: bool) -> None:
    """Raises ValueError for a file without a complete line (`alone`) unless `rest` can start our first line."""
    if alone and not (rest.startswith(beginning) or beginning.startswith(rest)):
        raise ValueError("it is not a results file of ga2clip")


def _record(rows: Sequence[dict[str, str]], ranking: Sequence[dict[str, str]]) -> _Record:
    first = rows[0]
    asked: _Record = {key: first[key] for key in _ASKED} | {"top": int(first["top"])}
    if first["error"]:
        return {"file": first["file"], "error": first["error"]} | asked
    return {
        "file": first["file"],
        "frames": int(first["frames"]),
        "duration": float(first["duration"]),
        "predictions": [{"label": r["label"], "probability": float(r["probability"])} for r in ranking],
    } | asked
