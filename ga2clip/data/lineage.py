"""What became of the clips of a dataset: between two preparations, and since a run was trained on some of them.

Clips are recognised by their content (`Clip.identity`), wherever their files lie.
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ga2clip.data.manifest import FILE_NAME, Clip, Manifest
from ga2clip.errors import UserError
from ga2clip.text import counted, printable

if TYPE_CHECKING:  # it loads the reading of video, which what a run says of itself does not need
    from ga2clip.data.protocols import Task

SCHEMA = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """What differs between two manifests of a dataset: (clip id, what) by kind."""

    came: tuple[tuple[str, str], ...] = ()
    went: tuple[tuple[str, str], ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    """Clips of another split or class than before, and how."""


def former_splits(before: Manifest, clips: Iterable[Clip]) -> dict[str, str]:
    """Id → split that a clip had before: the same file in the same place, elsewhere, or another in its place."""
    lookup = _Lookup(before)
    return {clip.id: former.split for clip in clips if (former := lookup.find(clip))}


def changes(before: Manifest, after: Manifest) -> Changes:
    """What came, went and moved, without anchors."""
    lookup = _Lookup(before)
    came, moved = [], []
    stayed: set[str] = set()
    for clip in _labelled(after):
        former = lookup.find(clip)
        if former is None:
            came.append((clip.id, f"{clip.split}, '{clip.label}'"))
            continue
        stayed.add(former.id)
        if (former.split, former.other_splits) != (clip.split, clip.other_splits):
            moved.append((clip.id, f"from {former.split} to {clip.split}"))
        elif former.label != clip.label:
            moved.append((clip.id, f"from '{former.label}' to '{clip.label}'"))
    went = [(clip.id, f"{clip.split}, '{clip.label}'") for clip in _labelled(before) if clip.id not in stayed]
    return Changes(tuple(came), tuple(went), tuple(moved))


class _Lookup:
    def __init__(self, manifest: Manifest) -> None:
        self._by_id = {clip.id: clip for clip in _labelled(manifest)}
        self._by_identity = {clip.identity: clip for clip in _labelled(manifest)}

    def find(self, clip: Clip) -> Clip | None:
        """The clip as it was before; None if it is new."""
        here = self._by_id.get(clip.id)
        if here is not None and here.identity == clip.identity:
            return here
        return self._by_identity.get(clip.identity) or here


def _labelled(manifest: Manifest) -> list[Clip]:
    return [clip for clip in manifest.clips if clip.label is not None]


class Record(BaseModel):
    """What a run knows of the data that it was trained on; `data.json` in its folder.

    Attributes:
        manifest: fingerprint of the manifest, see `fingerprint`.
        dataset: its name.
        classes: all classes of the manifest, as the run names them.
        trained: identities of the training clips, in their order.
        validated: identities of the validation clips.
        known: identities of those among them that were test clips already, as duplicates in two parts are.
        root: the dataset's folder, relative to the run's.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    schema_version: int = SCHEMA
    manifest: str
    dataset: str
    classes: list[str]
    trained: list[str]
    validated: list[str] = []
    known: list[str] = []
    root: str = ""


def record(manifest: Manifest, task: "Task", root: str) -> Record:
    """The record of a run that is trained on a task of this manifest. root: see `Record.root`."""
    trained, validated = ([clip.identity for clip in clips] for clips in (task.train, task.val))
    used = Seen([*trained, *validated])
    tested = [clip for part in task.evals for clip in part.clips]
    return Record(
        manifest=fingerprint(manifest),
        dataset=manifest.dataset,
        classes=list(manifest.classes),
        trained=trained,
        validated=validated,
        known=sorted({clip.identity for clip in tested if clip in used}),
        root=root,
    )


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 of the classes, and of the content, class and splits of all clips: the same wherever the folder lies."""
    number = {name: index for index, name in enumerate(manifest.classes)}
    clips = sorted(
        (clip.identity, number[str(clip.label)], clip.split, *clip.other_splits)
        for clip in _labelled(manifest)
    )
    tree = [manifest.dataset, manifest.raw_names or manifest.classes, clips]
    return hashlib.sha256(json.dumps(tree).encode("ascii")).hexdigest()


class Seen:
    """A set of identities that also holds clips of which it has a part, as overlapping spans of a file are."""

    def __init__(self, identities: Iterable[str]) -> None:
        self._spans: Mapping[str, list[tuple[float, float] | None]] = defaultdict(list)
        for identity in identities:
            content, span = _parse(identity)
            self._spans[content].append(span)

    def __contains__(self, clip: Clip) -> bool:
        content, span = _parse(clip.identity)
        return any(_overlap(span, other) for other in self._spans.get(content, ()))


def _parse(identity: str) -> tuple[str, tuple[float, float] | None]:
    content, mark, span = identity.rpartition("#t=")
    if not mark:
        return identity, None
    start, _, end = span.partition(",")
    return content, (float(start), float(end))


def _overlap(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    return one is None or other is None or (one[0] < other[1] and other[0] < one[1])


def leaked(trained: Record, clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Test clips that a run was trained or validated on: those that came to testing since, and those known before."""
    used, known = Seen([*trained.trained, *trained.validated]), Seen(trained.known)
    seen = list({clip.id: clip for clip in clips if clip in used}.values())
    return [clip for clip in seen if clip not in known], [clip for clip in seen if clip in known]


def training_changes(trained: Record, task: "Task") -> str:
    """What differs between the training of a record and a task; "" where both train on the same clips."""
    now = {
        "training": [clip.identity for clip in task.train],
        "validation": [clip.identity for clip in task.val],
    }
    for part, before in (("training", trained.trained), ("validation", trained.validated)):
        came, went = len(set(now[part]) - set(before)), len(set(before) - set(now[part]))
        if came or went:
            return f"{counted(came, f'{part} clip')} came and {went} went"
        if now[part] != before:
            return f"the {part} clips have another order"
    return ""


def warn_of_test_clips(files: Iterable[Path]) -> None:
    """Log which files are kept for testing in the prepared folder that they lie in, since a model is to learn them."""
    folders: dict[Path, set[Path]] = {}
    given = [file.absolute() for file in files]
    kept = [file for file in given if any(file in _tested(folder, folders) for folder in file.parents)]
    if kept:
        _log.warning(
            "%d of %d example clips are test clips of their dataset, such as %s: accuracies on them will be too high",
            *(len(kept), len(given), printable(str(kept[0]))),
        )


def _tested(folder: Path, known: dict[Path, set[Path]]) -> set[Path]:
    """The test files of a prepared folder; none of other folders."""
    if folder not in known:
        known[folder] = set()
        if (folder / FILE_NAME).is_file():
            with suppress(UserError):  # a file of that name by another program
                manifest = Manifest.read(folder)
                held_out = manifest.meta.get("test_split", "test")
                known[folder] = {folder / clip.path for clip in manifest.clips if clip.split == held_out}
    return known[folder]
