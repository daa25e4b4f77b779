"""Clips selected by published split lists (`path label`) and named by label files (`id,name`).

Papers publish such files, for example ViFi-CLIP's `datasets_splits/` and `labels/`. Listed paths are matched to the end
of the clips' paths, so the folder structure below the root doesn't matter.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ga2clip.data.class_names import RAW, READABLE
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.errors import UserError
from ga2clip.label_files import read_clip_list, read_labels
from ga2clip.labels import check_class_names, letters, readable_name
from ga2clip.settings import DataSettings
from ga2clip.text import counted, printable
from ga2clip.video import bare_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitLists:
    """The clips of given lists, labelled among `classes`; description: file names, and counts of clips left out."""

    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    description: str


def read_split_lists(manifest: Manifest, data: DataSettings) -> SplitLists:
    """The clips that `data.split_file` (training) and `data.test_split_file` (testing) list.

    `test_split_file` and `labels` may be several files, separated by commas, because base and novel lists are usually
    published separately, each with its own label file and ids from 0. The n-th label file names the ids of the n-th
    test list; the first one also names those of the training list. Without `labels`, a clip has its label of the
    manifest. Without a test list, the manifest's test clips of the same classes (base-to-novel: of all classes) are
    used; the names must then be those of the manifest.

    Raises UserError for files that can't be read, lists without any prepared clip, ids without a name, and names
    that no test clip has.
    """
    if data.labels and data.class_names not in (READABLE, RAW):
        raise UserError("data.labels and data.class_names both name the classes", "give only one of them")
    raw = data.class_names == RAW
    names = [_matched_names(read_label_names(Path(file), raw=raw), manifest) for file in _files(data.labels)]
    index = _index(manifest)
    reports: list[str] = []
    train = _labelled(data.split_file, manifest, index, names[0] if names else None, reports)
    tests = _files(data.test_split_file)
    if tests:
        test = tuple(
            clip
            for position, file in enumerate(tests)
            for clip in _labelled(file, manifest, index, _nth(names, position), reports)
        )
    else:
        held_out = str(manifest.meta.get("test_split", "test"))
        test = tuple(clip for clip in manifest.in_split(data.split) if clip.split == held_out)
    both = tests or data.protocol == "base-to-novel"
    classes = _classes(names, manifest, [*train, *test] if both else train)
    test = tuple(clip for clip in test if clip.label in set(classes))
    if names and not tests:
        untested = sorted(set(classes) - {clip.label for clip in test if clip.label})
        if untested:
            raise UserError(
                f"{data.labels}: '{untested[0]}' is not a class of {manifest.dataset}",
                "also give the test list of these labels (test_split_file)",
            )
    return SplitLists(classes, train, test, ", ".join(reports))


def read_label_names(path: Path, *, raw: bool = False) -> dict[int, str]:
    """Id → class name from a label file, in any form of `ga2clip.label_files`; without ids, lines count from 0.

    The names are converted to readable ones unless `raw` is true.

    Raises:
        UserError: a file that can't be read, or that repeats an id or a name.
    """
    labels = read_labels(path, "label file")
    names = {label.id: label.name if raw else readable_name(label.name) for label in labels}
    check_class_names(list(names.values()), path)
    return names


def _files(setting: str) -> list[str]:
    return [part.strip() for part in setting.split(",") if part.strip()]


def _nth(names: Sequence[dict[int, str]], position: int) -> dict[int, str] | None:
    return names[min(position, len(names) - 1)] if names else None


def _index(manifest: Manifest) -> dict[str, list[Clip]]:
    """Clips by file name without case and extension: published lists differ in case, folders and extensions (clips are
    often converted), but not in names.
    """
    index: dict[str, list[Clip]] = defaultdict(list)
    for clip in manifest.clips:
        index[bare_name(clip.path).casefold().rpartition("/")[2]].append(clip)
    return index


def _find(index: Mapping[str, list[Clip]], listed: str) -> Clip | None:
    listed = listed.replace("\\", "/").lstrip("/").casefold()
    name = bare_name(listed)
    clips = index.get(name.rpartition("/")[2], [])
    if len(clips) > 1:
        exact = [clip for clip in clips if f"/{clip.path}".casefold().endswith(f"/{listed}")]
        clips = exact or [
            clip for clip in clips if f"/{bare_name(clip.path).casefold()}".endswith(f"/{name}")
        ]
    return clips[0] if len(clips) == 1 else None


def _labelled(
    file: str,
    manifest: Manifest,
    index: Mapping[str, list[Clip]],
    names: Mapping[int, str] | None,
    reports: list[str],
) -> tuple[Clip, ...]:
    """The clips of one list; appends to `reports` how many are left out, and why."""
    if not file:
        return ()
    entries = read_clip_list(Path(file))
    if names is not None:
        _check_ids(file, {label for _, label in entries}, names)
    numbers: dict[str, dict[int, Clip]] = defaultdict(dict)
    lost: list[str] = []
    for listed, label in entries:
        clip = _find(index, listed)
        if clip is None:
            lost.append(listed)
        else:
            numbers[clip.path][label] = clip
    if not numbers:
        raise UserError(
            f"none of the {counted(len(entries), 'clip')} of {file} is prepared", f"such as {lost[0]}"
        )
    several = [path for path, labels in numbers.items() if len(labels) > 1]
    labelled = [
        (clip, label) for labels in numbers.values() if len(labels) == 1 for label, clip in labels.items()
    ]
    _check_agreement(file, manifest, labelled, names)
    notes = []
    for left_out, fault in ((lost, "not there"), (several, "with several labels")):
        if left_out:
            notes.append(f"{len(left_out)} of {counted(len(entries), 'clip')} {fault}")
            logger.warning("%s: %s, such as %s: left out", file, notes[-1], printable(left_out[0]))
    reports.append(Path(file).name + (f" ({', '.join(notes)})" if notes else ""))
    return tuple(clip if names is None else replace(clip, label=names[label]) for clip, label in labelled)


def _check_ids(file: str, used: set[int], names: Mapping[int, str]) -> None:
    """Refuse a list that uses ids without a name."""
    unknown = sorted(used - names.keys())
    if not unknown:
        return
    if {number - 1 for number in used} <= names.keys() and min(used) > min(names):
        raise UserError(
            f"split list {file} counts its labels from {min(used)}, the label file from {min(names)}",
            "both must count from the same number",
        )
    raise UserError(
        f"split list {file}: the label file has no id {unknown[0]}", "give the label file of this list"
    )


def _check_agreement(
    file: str, manifest: Manifest, labelled: Sequence[tuple[Clip, int]], names: Mapping[int, str] | None
) -> None:
    """Raises UserError if a list's labels contradict the manifest's for most clips; warns if for fewer.

    With names, an id must not be the name of another class than the clip's own; names that the manifest doesn't have
    are not compared. Without names, ids and classes of the manifest must correspond one to one.
    """
    pairs = [(clip, label, clip.label) for clip, label in labelled]
    if names is None:
        class_of: dict[int, str | None] = {}
        id_of: dict[str | None, int] = {}
        for (label, own), _ in Counter((label, own) for _, label, own in pairs).most_common():
            class_of.setdefault(label, own)
            id_of.setdefault(own, label)
        wrong = [pair for pair in pairs if class_of[pair[1]] != pair[2] or id_of[pair[2]] != pair[1]]
    else:
        known = _spellings(manifest)
        meant = {label: known.get(letters(name)) for label, name in names.items()}
        pairs = [pair for pair in pairs if meant[pair[1]] is not None]
        wrong = [pair for pair in pairs if meant[pair[1]] != pair[2]]
    if not wrong:
        return
    clip, label, own = wrong[0]
    message = (
        f"split list {file}: the labels of {len(wrong)} of {counted(len(pairs), 'clip')} contradict "
        f"{manifest.dataset}: {printable(clip.path)} is '{own}' there and "
        f"{label}{f' ({names[label]})' if names else ''} here"
    )
    if 2 * len(wrong) > len(pairs):
        raise UserError(
            message, "give the label file of this list, with its ids counted from the same number"
        )
    logger.warning("%s", message)


def _spellings(manifest: Manifest) -> dict[str, str]:
    """Classes by `letters` of their readable and raw names."""
    raw = dict(zip(map(letters, manifest.raw_names), manifest.classes, strict=False))
    return raw | {letters(name): name for name in manifest.classes}


def _matched_names(names: dict[int, str], manifest: Manifest) -> dict[int, str]:
    """The names, in the manifest's spelling if it has the same words."""
    known = {letters(name): name for name in manifest.classes}
    return {number: known.get(letters(name), name) for number, name in names.items()}


def _classes(names: Sequence[dict[int, str]], manifest: Manifest, clips: Iterable[Clip]) -> tuple[str, ...]:
    if names:
        return tuple(dict.fromkeys(name for table in names for _, name in sorted(table.items())))
    used = {clip.label for clip in clips}
    return tuple(name for name in manifest.classes if name in used)
