"""What `prepare` found in a folder: a typed `Manifest`, written to and read from `<root>/manifest.json`."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from ga2clip.errors import UserError
from ga2clip.files import write_text
from ga2clip.registry import DATASETS
from ga2clip.settings import DataSettings

SCHEMA = 1
FILE_NAME = "manifest.json"
WORK_FOLDER = ".ga2clip"
"""Folder under a dataset's root for what `prepare` makes: journal, anchors, frame cache."""

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
)


_AGAIN = "prepare the dataset again: what was checked is not decoded again"

Count = Annotated[int, Field(strict=True, ge=0)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Split = Literal["train", "val", "test", "anchor", "unused"]
_Row = tuple[str, Count | None, Split, Count, Seconds, str, str, tuple[Split, ...], Count, Count]


@dataclass(frozen=True)
class Clip:
    """One video file.

    path: relative to the manifest's root, with `/`. label: readable class name, None for anchor clips.
    split: a `Split`; for datasets with several official splits, the first one's, and `other_splits`
    has the ones of split 2, 3, …. frames: decodable frames, 0 for a clip that can't be decoded (or was not
    looked at). duration: seconds. group: clips cut from the same source, where the dataset says so. width,
    height: pixels, upright.
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

    @property
    def id(self) -> str:
        """The clip's name in reports: its path."""
        return self.path


@dataclass(frozen=True)
class Manifest:
    """A prepared dataset.

    Attributes:
        dataset: its name.
        root: the folder that it lies in.
        classes: readable names in a fixed order.
        base_classes: the declared base half, or empty when the protocol has to find it.
        clips: everything that can be trained on, tested on or mixed in.
        meta: rule, seed, flip rule, number of splits, what was broken or missing.
        raw_names: the classes as the dataset spells them, in the same order; empty in manifests that were written
            before raw names were kept.
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
        """How many official splits the dataset has."""
        return 1 + max((len(clip.other_splits) for clip in self.clips), default=0)

    @property
    def broken(self) -> dict[str, str]:
        """Why `prepare` could not decode a clip, by clip id."""
        return {str(path): str(reason) for path, reason in self.meta.get("broken", ())}

    def in_split(self, number: int) -> tuple[Clip, ...]:
        """The clips with `split` as official split `number` (from 1) has it.

        Errors: UserError for a split that the dataset doesn't have.
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
        """Write `<root>/manifest.json`, whole or not at all. Errors: UserError when the system refuses."""
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
            UserError: the folder was not prepared, or by a version with another schema; the file is damaged.
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
        if isinstance(tree, dict) and tree.get("schema") != SCHEMA:
            raise UserError(f"{path} was written by another version", _AGAIN)
        try:
            content = _Content.model_validate(tree)
        except ValidationError as error:
            raise UserError(f"{path} is damaged: {first_fault(error)}", _AGAIN) from None
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
        """One line per clip, so that two manifests can be compared; ASCII, so that any file name survives."""
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
    """The prepared dataset of these settings. Errors: as `dataset_root` and `Manifest.read`."""
    return Manifest.read(dataset_root(data), data.dataset)


def dataset_root(data: DataSettings) -> Path:
    """Where the dataset of these settings lies: `data.root`, else `data/<dataset>` in the working folder.

    Errors: UserError for settings without a dataset, as an imported run may have them.
    """
    if not (data.root or data.dataset):
        raise UserError(
            "this run names no dataset",
            f"say which by --dataset ({', '.join(DATASETS.names())}), and --root where it lies elsewhere",
        )
    return Path(data.root) if data.root else Path("data") / data.dataset


def relative_path(path: Path, root: Path) -> str:
    """A file's path as manifests have it: relative to the root, with `/` on every system."""
    return Path(os.path.relpath(path, root)).as_posix()


def _row(clip: Clip, number: Mapping[str, int]) -> list[Any]:
    label = None if clip.label is None else number[clip.label]
    row = [clip.path, label, clip.split, clip.frames, round(clip.duration, 3), clip.sha256, clip.group]
    return [*row, list(clip.other_splits), clip.width, clip.height]


class _Meta(BaseModel):
    """What is known of a manifest's `meta`."""

    model_config = ConfigDict(extra="allow")

    rule: str = ""
    flip: Annotated[bool, Field(strict=True)] = True
    test_split: Split = "test"
    broken: tuple[tuple[str, str], ...] = ()
    missing: Count = 0
    contradictory: Count = 0


class _Content(BaseModel):
    """`manifest.json`, checked: what is damaged or edited by hand is refused where it is read, not where it is used."""

    dataset: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    base_classes: tuple[str, ...]
    raw_names: tuple[str, ...] = ()
    meta: _Meta
    clips: tuple[_Row, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> "_Content":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class occurs twice")
        if not set(self.base_classes) <= set(self.classes):
            raise ValueError("a base class is no class")
        if len(self.raw_names) not in (0, len(self.classes)):
            raise ValueError("there are not as many raw names as classes")
        for path, label, *_ in self.clips:
            if not path or "\0" in path or (label is not None and label >= len(self.classes)):
                raise ValueError(f"clip {path!a} has no path or no class")
        return self


def first_fault(error: ValidationError) -> str:
    """Where the first fault of a file is and what, in one line."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _clip(row: _Row, classes: tuple[str, ...]) -> Clip:
    path, label, split, frames, duration, sha256, group, other_splits, width, height = row
    name = None if label is None else classes[label]
    return Clip(path, name, split, frames, duration, sha256, group, other_splits, width, height)
