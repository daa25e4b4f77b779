"""Shared split lists (`path label`) and label CSVs (`id,name`) go in; labelled clips of the manifest come out.

These are the files that papers of the field publish, such as ViFi-CLIP's `datasets_splits/` and `labels/`.
Paths in them are matched to the prepared clips by their end, so it doesn't matter how the videos are
arranged below the root.
"""

import csv
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ga2clip.data.manifest import Clip, Manifest
from ga2clip.errors import UserError
from ga2clip.labels import check_class_names, readable_name
from ga2clip.settings import DataSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitLists:
    """The clips of given lists, labelled among `classes`; description: file names and what was not found."""

    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    description: str


def read_split_lists(manifest: Manifest, data: DataSettings) -> SplitLists:
    """The clips that `data.split_file` (training) and `data.test_split_file` (testing) list.

    `test_split_file` and `labels` may name several files, separated by commas: base and novel lists come
    apart in the field, each with its own CSV and its own count of ids from 0. The n-th CSV names the ids of
    the n-th test list, the first one also those of the training list. Without `labels` a clip has the label
    of the manifest; without a test list the manifest's test clips of the same classes (base-to-novel: of
    all) are used, which need the manifest's names.
    Errors: UserError for files that can't be read, lists of which no clip is prepared, ids without a name,
    names that the test clips don't have.
    """
    if data.labels and data.class_names not in ("readable", "raw"):
        raise UserError("labels and class_names both name the classes", "give one of the two files")
    raw = data.class_names == "raw"
    names = [_matched_names(read_label_csv(Path(file), raw=raw), manifest) for file in _files(data.labels)]
    index = _index(manifest)
    reports: list[str] = []
    train = _labelled(data.split_file, index, names[0] if names else None, reports)
    tests = _files(data.test_split_file)
    if tests:
        test = tuple(
            clip
            for position, file in enumerate(tests)
            for clip in _labelled(file, index, _nth(names, position), reports)
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
                "give the test list that belongs to these labels too (test_split_file)",
            )
    return SplitLists(classes, train, test, ", ".join(reports))


def read_label_csv(path: Path, *, raw: bool = False) -> dict[int, str]:
    """Class names by id from a CSV with the columns `id,name`, made readable unless they are to stay `raw`.

    Errors: UserError for a file that can't be read, has no such columns or rows, or repeats an id or a name.
    """
    names: dict[int, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                if int(row["id"]) in names:
                    raise UserError(f"label CSV {path}: id {row['id']} occurs twice")
                names[int(row["id"])] = row["name"].strip() if raw else readable_name(row["name"])
    except OSError as error:
        raise UserError(f"cannot read label CSV {path}: {error.strerror}") from None
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error):
        raise UserError(
            f"label CSV {path} must have the columns id,name", "the first line is: id,name"
        ) from None
    check_class_names(list(names.values()))
    return names


def read_clip_list(path: Path) -> list[tuple[str, int]]:
    """The lines `path label` (or `path,label`) of a list; the path may hold blanks.

    Errors: UserError for a file that can't be read, is empty, or has a line without a number at its end.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read split list {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"split list {path} is not UTF-8 text") from None
    entries: list[tuple[str, int]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().replace(",", " ").rpartition(" ")
        if not name or not label.isdecimal():
            raise UserError(f"split list {path}, line {number}: expected 'path label', got '{line[:80]}'")
        entries.append((name.strip(), int(label)))
    if not entries:
        raise UserError(f"split list {path} is empty")
    return entries


def _files(setting: str) -> list[str]:
    return [part.strip() for part in setting.split(",") if part.strip()]


def _nth(names: Sequence[dict[int, str]], position: int) -> dict[int, str] | None:
    return names[min(position, len(names) - 1)] if names else None


def _index(manifest: Manifest) -> dict[str, list[Clip]]:
    """Clips by file name without case and extension: the field's lists disagree about case, folders and
    extensions (clips are often converted), not about names.
    """
    index: dict[str, list[Clip]] = defaultdict(list)
    for clip in manifest.clips:
        index[_without_extension(clip.path).rpartition("/")[2]].append(clip)
    return index


def _find(index: Mapping[str, list[Clip]], listed: str) -> Clip | None:
    listed = listed.replace("\\", "/").lstrip("/").casefold()
    name = _without_extension(listed)
    found = index.get(name.rpartition("/")[2], [])
    if len(found) > 1:
        exact = [clip for clip in found if f"/{clip.path}".casefold().endswith(f"/{listed}")]
        found = exact or [clip for clip in found if f"/{_without_extension(clip.path)}".endswith(f"/{name}")]
    return found[0] if len(found) == 1 else None


def _without_extension(path: str) -> str:
    return os.path.splitext(path)[0].casefold()


def _labelled(
    file: str, index: Mapping[str, list[Clip]], names: Mapping[int, str] | None, reports: list[str]
) -> tuple[Clip, ...]:
    """The clips of one list; says in `reports` how many of them are not there."""
    if not file:
        return ()
    entries = read_clip_list(Path(file))
    clips: list[Clip] = []
    lost: list[str] = []
    for listed, label in entries:
        clip = _find(index, listed)
        if clip is None:
            lost.append(listed)
        elif names is None:
            clips.append(clip)
        elif label in names:
            clips.append(replace(clip, label=names[label]))
        else:
            raise UserError(
                f"split list {file}: the label CSV has no id {label}", "give the CSV of this list"
            )
    if not clips:
        raise UserError(f"none of the {len(entries)} clips of {file} is prepared", f"such as {lost[0]}")
    name = Path(file).name
    if lost:
        logger.warning(
            "%s: %d of %d clips are not prepared, such as %s", file, len(lost), len(entries), lost[0]
        )
        name += f" ({len(lost)} of {len(entries)} clips not there)"
    reports.append(name)
    return tuple(clips)


def _matched_names(names: dict[int, str], manifest: Manifest) -> dict[int, str]:
    """The manifest's spelling where it has the same words."""
    known = {_letters(name): name for name in manifest.classes}
    return {number: known.get(_letters(name), name) for number, name in names.items()}


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _classes(names: Sequence[dict[int, str]], manifest: Manifest, clips: Iterable[Clip]) -> tuple[str, ...]:
    if names:
        return tuple(dict.fromkeys(name for table in names for _, name in sorted(table.items())))
    used = {clip.label for clip in clips}
    return tuple(name for name in manifest.classes if name in used)
