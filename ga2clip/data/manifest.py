"""`Manifest`, the classes and clips of a prepared dataset, written to and read from `<root>/manifest.json`."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from ga2clip.errors import UserError
from ga2clip.files import write_text
from ga2clip.labels import check_class_names
from ga2clip.registry import DATASETS
from ga2clip.settings import DataSettings

SCHEMA = 2
_READABLE = (1, SCHEMA)
FILE_NAME = "manifest.json"
WORK_FOLDER = ".ga2clip"
"""Folder below a dataset's root for the output of `prepare`: journal, anchors, frame cache."""

_COLUMNS = (
    "path",
    "label",
    "split",
    "frames",
    "duration",
    "sha256",
    "group",
    "other_splits",
    "width",
    "height",
    "start",
    "end",
    "first",
)


_DIGITS = 16
_AGAIN = "prepare the dataset again; clips that were checked are not decoded again"

Count = Annotated[int, Field(strict=True, ge=0)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Split = Literal["train", "val", "test", "anchor", "unused"]
_Columns = tuple[
    str,
    Count | None,
    Split,
    Count,
    Seconds,
    str,
    str,
    tuple[Split, ...],
    Count,
    Count,
    Seconds | None,
    Seconds | None,
    Count,
]
_Row = Annotated[_Columns, BeforeValidator(lambda row: _with_span(row))]


@dataclass(frozen=True)
class Clip:
    """One video file, or a span of one.

    Attributes:
        path: relative to the manifest's root, with `/`.
        label: readable class name; None for anchor clips.
        split: a `Split`; if the dataset has several official splits, the clip's role in the first.
        other_splits: its roles in the official splits 2, 3, ….
        frames: number of decodable frames; 0 for a clip that can't be decoded or was not checked.
        duration: in seconds.
        sha256: of the file's content.
        group: identifies clips cut from the same source video, if the dataset says so.
        width: in pixels, upright.
        height: in pixels, upright.
        span: (start, end) in seconds; None: the whole file. The frames of the span are those whose time, rounded to
            milliseconds, is at least `start` and less than `end`.
        first: the number of the span's first frame in the file.
    """

    path: str
    label: str | None
    split: str
    frames: int
    duration: float
    sha256: str = ""
    group: str = ""
    other_splits: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    span: tuple[float, float] | None = None
    first: int = 0

    @property
    def id(self) -> str:
        """The clip's name in reports: its path, and for a span `#t=START,END` (W3C Media Fragments)."""
        return clip_id(self.path, self.span)

    @property
    def identity(self) -> str:
        """What the clip shows, wherever its file lies: digits of the content's hash, and the span.

        The id takes its place in manifests without hashes.
        """
        return clip_id(self.sha256[:_DIGITS], self.span) if self.sha256 else self.id


def clip_id(path: str, span: tuple[float, float] | None) -> str:
    """The id of a clip of these, see `Clip.id`."""
    return path if span is None else f"{path}#t={span[0]:.3f},{span[1]:.3f}"


@dataclass(frozen=True)
class Manifest:
    """A prepared dataset.

    Attributes:
        dataset: its name.
        root: its folder.
        classes: readable names in a fixed order.
        base_classes: the declared base classes; empty if the protocol has to choose them.
        clips: all training, validation, test and anchor clips.
        meta: rule of the splits, seed, flip rule, number of splits, broken and missing clips.
        raw_names: the classes as the dataset spells them, in the same order; empty in manifests of earlier versions.
    """

    dataset: str
    root: Path
    classes: tuple[str, ...]
    base_classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    raw_names: tuple[str, ...] = ()

    @property
    def splits(self) -> int:
        """The number of official splits."""
        return 1 + max((len(clip.other_splits) for clip in self.clips), default=0)

    @property
    def broken(self) -> dict[str, str]:
        """Clip id → why `prepare` could not decode the clip."""
        return {str(path): str(reason) for path, reason in self.meta.get("broken", ())}

    def in_split(self, number: int) -> tuple[Clip, ...]:
        """The clips, with `split` set to their role in official split `number` (from 1).

        Raises UserError for a split that the dataset doesn't have.
        """
        if not 1 <= number <= self.splits:
            raise UserError(
                f"dataset '{self.dataset}' has no split {number}",
                f"set data.split between 1 and {self.splits}",
            )
        if number == 1:
            return self.clips
        return tuple(
            replace(clip, split=clip.other_splits[number - 2]) if clip.other_splits else clip
            for clip in self.clips
        )

    def write(self) -> Path:
        """Write `<root>/manifest.json` atomically. Raises UserError when it can't be written."""
        path = self.root / FILE_NAME
        write_text(path, self._to_json())
        return path

    @classmethod
    def read(cls, root: Path, dataset: str = "") -> "Manifest":
        """The manifest of a prepared folder.

        Args:
            root: the folder.
            dataset: what should lie there, for the hint where nothing was prepared.

        Raises:
            UserError: the folder was not prepared, or was prepared by a version with another schema; or the file is
                damaged.
        """
        path = root / FILE_NAME
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{root} is not a prepared dataset (no {FILE_NAME})",
                shlex.join(["ga2clip", "prepare", "--dataset", dataset or "NAME", "--root", str(root)]),
            ) from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged: {error}", _AGAIN) from None
        if isinstance(tree, dict) and tree.get("schema") not in _READABLE:
            raise UserError(f"{path} was written by another version", _AGAIN)
        try:
            content = _Content.model_validate(tree)
        except ValidationError as error:
            raise UserError(f"{path} is damaged: {first_fault(error)}", _AGAIN) from None
        check_class_names(content.classes, path)
        return cls(
            dataset=content.dataset,
            root=root,
            classes=content.classes,
            base_classes=content.base_classes,
            clips=tuple(_clip(row, content.classes) for row in content.clips),
            meta=tree["meta"],
            raw_names=content.raw_names,
        )

    def _to_json(self) -> str:
        """The manifest as JSON: one line per clip, so that manifests can be diffed; ASCII, to keep any file name."""
        number = {name: index for index, name in enumerate(self.classes)}
        head = {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "meta": self.meta,
            "classes": self.classes,
            "raw_names": self.raw_names,
            "base_classes": self.base_classes,
            "columns": _COLUMNS,
        }
        lines = (json.dumps(_row(clip, number), separators=(",", ":")) for clip in self.clips)
        return json.dumps(head, indent=1)[:-2] + ',\n "clips": [\n' + ",\n".join(lines) + "\n]}\n"


def read_dataset(data: DataSettings) -> Manifest:
    """The prepared dataset of these settings. Raises as `dataset_root` and `Manifest.read`."""
    return Manifest.read(dataset_root(data), data.dataset)


def dataset_root(data: DataSettings) -> Path:
    """The dataset's folder: `data.root`, else `data/<dataset>` in the working folder.

    Raises UserError for settings without a dataset, which imported runs may have.
    """
    if not (data.root or data.dataset):
        raise UserError(
            "this run names no dataset",
            f"say which by --dataset ({', '.join(DATASETS.names())}), and --root where it lies elsewhere",
        )
    return Path(data.root) if data.root else Path("data") / data.dataset


def relative_path(path: Path, root: Path) -> str:
    """A file's path as written in manifests: relative to the root, with `/` on every system."""
    return Path(os.path.relpath(path, root)).as_posix()


def _row(clip: Clip, number: Mapping[str, int]) -> list[Any]:
    label = None if clip.label is None else number[clip.label]
    row = [clip.path, label, clip.split, clip.frames, round(clip.duration, 3), clip.sha256, clip.group]
    start, end = clip.span or (None, None)
    return [*row, list(clip.other_splits), clip.width, clip.height, start, end, clip.first]


def _with_span(row: Any) -> Any:
    """A row with the columns of a span, which manifests of schema 1 don't have."""
    return [*row, None, None, 0] if isinstance(row, list) and len(row) == len(_COLUMNS) - 3 else row


class _Meta(BaseModel):
    """The schema of a manifest's `meta`."""

    model_config = ConfigDict(extra="allow")

    rule: str = ""
    flip: Annotated[bool, Field(strict=True)] = True
    test_split: Split = "test"
    broken: tuple[tuple[str, str], ...] = ()
    missing: Count = 0
    contradictory: Count = 0


class _Content(BaseModel):
    """The schema of `manifest.json`: damage and bad edits are detected when the file is read."""

    dataset: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    base_classes: tuple[str, ...]
    raw_names: tuple[str, ...] = ()
    meta: _Meta
    clips: tuple[_Row, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> "_Content":
        if not set(self.base_classes) <= set(self.classes):
            raise ValueError("a base class is not among the classes")
        if len(self.raw_names) not in (0, len(self.classes)):
            raise ValueError("there are not as many raw names as classes")
        for path, label, *_, start, end, _first in self.clips:
            if not path or "\0" in path or (label is not None and label >= len(self.classes)):
                raise ValueError(f"clip {path!a} has no path or no class")
            if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
                raise ValueError(f"clip {path!a} has an impossible span")
        return self


def first_fault(error: ValidationError) -> str:
    """The place and message of the first error, in one line."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _clip(row: _Row, classes: tuple[str, ...]) -> Clip:
    path, label, split, frames, duration, sha256, group, others, width, height, start, end, first = row
    name = None if label is None else classes[label]
    span = None if start is None or end is None else (start, end)
    return Clip(path, name, split, frames, duration, sha256, group, others, width, height, span, first)
