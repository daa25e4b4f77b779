"""A folder as a dataset's owners hand it out goes in; a `Listing` of its clips with labels and splits comes out.

Nothing is decoded here. Videos are found by their names wherever they lie below the root, since archives are
unpacked in many ways; the official annotation files say which belong to the dataset.
"""

import csv
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.data.class_names import class_name
from ga2clip.data.manifest import relative_path
from ga2clip.data.registry import Dataset
from ga2clip.errors import UserError
from ga2clip.labels import check_class_names, readable_name
from ga2clip.text import printable
from ga2clip.video import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

_TEST_SHARE = 0.25
# What people call the folders, and owners the values of a column, of a split.
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Entry:
    """A clip as the annotations have it. path: below the root, with `/`; the rest as in `manifest.Clip`."""

    path: str
    label: str
    split: str
    group: str = ""
    other_splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a folder holds. missing: clips of the annotations without a file; test_split: `test` or `val`."""

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    missing: tuple[str, ...]
    rule: str
    test_split: str = "test"


def scan(dataset: Dataset, root: Path, *, list_file: Path | None = None, seed: int = 0) -> Listing:
    """The clips of a dataset below `root`.

    list_file: the CSV of the dataset `csv`. seed: draws test clips where the folder has no split of its own.
    Errors: UserError when the folder doesn't look as it must, with where to get the data.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}", dataset.get_it)
    if dataset.layout == "csv":
        listing = _csv(dataset, root, list_file, seed)
    elif dataset.layout == "folder":
        listing = _folder(root, seed)
    else:
        listing = _READERS[dataset.layout](dataset, root)
    if not listing.entries:
        raise UserError(f"{root} holds none of the videos of '{dataset.name}'", dataset.get_it)
    check_class_names(listing.classes)
    for name in listing.classes:
        if not _is_text(name):
            raise UserError(f"class name {name!a} in {root} is not UTF-8 text", "rename it")
    if dataset.classes and len(listing.classes) != dataset.classes:
        logger.warning(
            "%s has %d classes, '%s' has %d", root, len(listing.classes), dataset.name, dataset.classes
        )
    return listing


def find_videos(folder: Path) -> list[Path]:
    """The video files below a folder, by suffix, sorted; links are followed.

    Hidden files and folders are left out: what `prepare` made, waste baskets, the `._clip.mp4` of macOS.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [name for name in sorted(folders) if name[0] != "." and real not in visited]
        if real in visited:
            continue
        visited.add(real)
        found.extend(
            Path(place, name)
            for name in files
            if name[0] != "." and Path(name).suffix.lower() in VIDEO_SUFFIXES
        )
    return sorted(found)


def _ucf101(dataset: Dataset, root: Path) -> Listing:
    """`trainlist0N.txt` (`Class/clip.avi number`) and `testlist0N.txt` (`Class/clip.avi`), N = 1, 2, 3."""
    splits: list[dict[str, str]] = []
    for number in (1, 2, 3):
        split = {}
        for kind in ("train", "test"):
            for line in _lines(_file(dataset, root, f"{kind}list0{number}.txt")):
                split[line.split()[0]] = kind
        splits.append(split)
    videos = _by_name(root)
    listed = sorted(set().union(*splits))
    rows = []
    for name in listed:
        raw = name.partition("/")[0]
        group = re.search(r"_g(\d+)_", name)
        rows.append(
            (raw, name, group.group(1) if group else "", [split.get(name, "unused") for split in splits])
        )
    return _official(dataset, root, videos, rows, "the three official splits")


def _hmdb51(dataset: Dataset, root: Path) -> Listing:
    """`<class>_test_split<N>.txt`, N = 1, 2, 3, with lines `clip.avi code`: 1 train, 2 test, 0 neither."""
    kinds = {"1": "train", "2": "test", "0": "unused"}
    folder = _file(dataset, root, "*_test_split1.txt").parent
    codes: dict[tuple[str, str], list[str]] = {}
    for number in (1, 2, 3):
        suffix = f"_test_split{number}.txt"
        for file in _visible(folder.glob(f"*{suffix}")):
            for line in _lines(file):
                name, *rest = line.rsplit(maxsplit=1)
                code = "".join(rest)
                if code not in kinds:
                    raise UserError(
                        f"{file}: expected lines 'clip.avi 1', got '{line[:80]}'", "unpack it again"
                    )
                splits = codes.setdefault((file.name.removesuffix(suffix), name), ["unused"] * 3)
                splits[number - 1] = kinds[code]
    videos = _by_name(root)
    rows = [(raw, f"{raw}/{name}", "", splits) for (raw, name), splits in sorted(codes.items())]
    return _official(dataset, root, videos, rows, "the three official splits")


def _ssv2(dataset: Dataset, root: Path) -> Listing:
    """`labels.json` ({template: number}), `train.json` and `validation.json` ([{id, template}, …])."""
    classes = _ssv2_classes(_file(dataset, root, "*labels.json"))
    videos = {path.stem: path for path in find_videos(root)}
    entries, missing = [], []
    for split, pattern in (("train", "*train.json"), ("val", "*validation.json")):
        for number, label in _ssv2_clips(_file(dataset, root, pattern), classes):
            if number in videos:
                entries.append(Entry(relative_path(videos[number], root), label, split))
            else:
                missing.append(f"{number}.webm")
    rule = "the official training and validation lists; tested on validation, since test labels are withheld"
    return Listing(classes, tuple(entries), tuple(missing), rule, test_split="val")


def _ssv2_classes(file: Path) -> tuple[str, ...]:
    numbers = _json(file)
    try:
        return tuple(_phrase(template) for template in sorted(numbers, key=lambda name: int(numbers[name])))
    except (TypeError, ValueError):
        raise UserError(f"{file} does not number the labels", 'it must hold {"label": "0", …}') from None


def _ssv2_clips(file: Path, classes: Sequence[str]) -> list[tuple[str, str]]:
    """(id, label) of the clips in a list."""
    try:
        clips = [(str(item["id"]), _phrase(item["template"])) for item in _json(file)]
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{file} is not a list of clips with 'id' and 'template'") from None
    unknown = sorted({label for _, label in clips} - set(classes))
    if unknown:
        raise UserError(
            f"{file}: '{unknown[0]}' is not among the labels", "take lists and labels of one release"
        )
    return clips


def _kinetics(dataset: Dataset, root: Path) -> Listing:
    """Every CSV with the columns label, youtube_id, time_start, time_end[, split] is an annotation file."""
    videos: dict[str, Path] = {path.stem: path for path in find_videos(root)}
    entries: dict[str, Entry] = {}
    missing: list[str] = []
    labels: set[str] = set()
    for split, row in _kinetics_rows(dataset, root):
        label = " ".join(row["label"].replace("_", " ").split())
        labels.add(label)
        start, end = (round(float(row[column])) for column in ("time_start", "time_end"))
        stem = f"{row['youtube_id']}_{start:06d}_{end:06d}"
        names = (stem, f"{row['youtube_id']}_{start}_{end}", row["youtube_id"])
        path = next((videos[name] for name in names if name in videos), None)
        if path is None:
            missing.append(f"{split}/{stem}.mp4")
        else:
            entry = Entry(relative_path(path, root), label, split, row["youtube_id"])
            entries.setdefault(entry.path, entry)
    rule = "the official training and validation lists; tested on validation, as the field does"
    return Listing(tuple(sorted(labels)), tuple(entries.values()), tuple(missing), rule, test_split="val")


def _kinetics_rows(dataset: Dataset, root: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """(train or val, row) of the labelled clips; CSVs that are something else are passed over."""
    found = False
    for file in _visible([*root.glob("*.csv"), *root.glob("*/*.csv")]):
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.DictReader(lines)
            if not {"label", "youtube_id", "time_start", "time_end"} <= _columns(reader):
                continue
            found = True
            guess = next((name for name in _SPLIT_NAMES if name in file.stem.lower()), "")
            for row in reader:
                split = _SPLIT_NAMES.get((row.get("split") or guess).strip().lower())
                if split in ("train", "val") and row["label"]:  # the field doesn't use the test clips
                    if not _is_number(row["time_start"]) or not _is_number(row["time_end"]):
                        raise UserError(
                            f"{file}, line {reader.line_num}: times must be numbers", dataset.get_it
                        )
                    yield split, row
    if not found:
        raise UserError(f"{root} has no Kinetics annotation CSV", dataset.get_it)


def _columns(reader: "csv.DictReader[str]") -> set[str]:
    try:
        return set(reader.fieldnames or ())
    except csv.Error:
        return set()


def _is_number(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"\d+(\.\d*)?", text.strip()) is not None


def _folder(root: Path, seed: int) -> Listing:
    """`<class>/*` or `{train,val,test}/<class>/*`; a class may have folders inside."""
    folders = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    halves = {name: _SPLIT_NAMES[name.lower()] for name in folders if name.lower() in _SPLIT_NAMES}
    has_splits = len(set(halves.values())) > 1 and "train" in halves.values()
    if halves and not has_splits and len(halves) == len(folders):
        raise UserError(
            f"{root} holds only {' and '.join(sorted(halves))}: no class and no second split",
            "give train/ and test/, or the class folders directly: then test clips are drawn",
        )
    rows, loose = [], []
    for path in find_videos(root):
        name = relative_path(path, root)
        first, *inner = name.split("/")
        if has_splits and first in halves and len(inner) >= 2:
            rows.append((name, inner[0], halves[first]))
        elif not has_splits and inner:
            rows.append((name, first, ""))
        else:
            loose.append(name)
    if loose:
        logger.warning(
            "%d videos are in no class folder and left out, such as %s", len(loose), printable(loose[0])
        )
    return _own(rows, seed, readable_name)


def _csv(dataset: Dataset, root: Path, list_file: Path | None, seed: int) -> Listing:
    """Lines `path,label` or `path,label,split`, with or without that header."""
    if list_file is None:
        raise UserError("the dataset 'csv' needs a list of clips", dataset.get_it)
    rows, missing = [], []
    lines: dict[str, int] = {}
    for number, row in _csv_rows(list_file):
        path, label, split = (*row, "", "")[:3]
        given = _SPLIT_NAMES.get(split.strip().lower(), "")
        if len(row) not in (2, 3) or not label.strip() or (len(row) == 3 and not given):
            raise UserError(
                f"{list_file}, line {number}: expected path,label or path,label,split", dataset.get_it
            )
        if not (root / path).exists():
            path = path.replace("\\", "/")  # a list that was written on Windows
        if lines.setdefault(path, number) != number:
            raise UserError(f"{list_file}: {path} is on line {lines[path]} and again on line {number}")
        if (root / path).exists():
            rows.append((relative_path(root / path, root), label.strip(), given))
        else:
            missing.append(path)
    return _own(rows, seed, lambda raw: " ".join(raw.split()), missing)


def _csv_rows(file: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV with their line numbers, without a header and without empty lines."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise UserError(f"cannot read list {file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"list {file} is not a UTF-8 CSV: {error}") from None
    has_header = bool(rows) and [cell.strip().lower() for cell in rows[0][1][:2]] == ["path", "label"]
    return rows[1:] if has_header else rows


_READERS: dict[str, Callable[[Dataset, Path], Listing]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "ssv2": _ssv2,
    "kinetics": _kinetics,
}


def _official(
    dataset: Dataset,
    root: Path,
    videos: Mapping[str, Sequence[Path]],
    rows: Iterable[tuple[str, str, str, Sequence[str]]],
    rule: str,
) -> Listing:
    """Rows (raw label, `class/file`, group, one split per official split) with the files that are there."""
    entries, missing, labels = [], [], {}
    for raw, name, group, splits in rows:
        labels[raw] = class_name(dataset.name, raw)
        path = _nearest(videos.get(Path(name).stem.casefold(), ()), name)
        if path is None:
            missing.append(name)
        else:
            first, *others = splits
            entries.append(Entry(relative_path(path, root), labels[raw], first, group, tuple(others)))
    classes = tuple(labels[raw] for raw in sorted(labels))
    return Listing(classes, tuple(entries), tuple(missing), rule)


def _own(
    rows: Sequence[tuple[str, str, str]],
    seed: int,
    name: Callable[[str], str],
    missing: Iterable[str] = (),
) -> Listing:
    """Rows (path, raw label, split or ""); clips without a split are dealt out by the seed, per class."""
    labels = {raw: name(raw) for raw in sorted({raw for _, raw, _ in rows})}
    drawn = _draw_test([(path, raw) for path, raw, split in rows if not split], seed)
    entries = tuple(Entry(path, labels[raw], split or drawn[path]) for path, raw, split in rows)
    splits = {entry.split for entry in entries}
    rule = (
        f"{_TEST_SHARE:.0%} of each class drawn for testing with seed {seed}" if drawn else "the given splits"
    )
    return Listing(
        tuple(labels.values()), entries, tuple(missing), rule, "test" if "test" in splits else "val"
    )


def _draw_test(clips: Iterable[tuple[str, str]], seed: int) -> dict[str, str]:
    by_label: dict[str, list[str]] = defaultdict(list)
    for path, raw in clips:
        by_label[raw].append(path)
    rng = np.random.default_rng(seed)
    split = {}
    for raw in sorted(by_label):
        paths = sorted(by_label[raw])
        held_out = max(1, round(len(paths) * _TEST_SHARE)) if len(paths) > 1 else 0
        for place, number in enumerate(rng.permutation(len(paths))):
            split[paths[number]] = "test" if place < held_out else "train"
    return split


def _phrase(template: str) -> str:
    """SSv2's templates as they stand in the middle of a sentence, without brackets."""
    text = " ".join(template.replace("[", "").replace("]", "").split())
    return text[:1].lower() + text[1:]


def _by_name(root: Path) -> dict[str, list[Path]]:
    """Videos by their name without case and extension: many people convert the clips."""
    videos: dict[str, list[Path]] = defaultdict(list)
    for path in find_videos(root):
        videos[path.stem.casefold()].append(path)
    return videos


def _nearest(candidates: Sequence[Path], name: str) -> Path | None:
    """The candidate with that folder and name, else in that folder, else any."""
    exact = [path for path in candidates if path.as_posix().endswith("/" + name)]
    folder = "/" + name.casefold().rpartition("/")[0] + "/"
    placed = [path for path in candidates if folder in path.as_posix().casefold()]
    chosen = exact or placed or candidates
    return chosen[0] if chosen else None


def _file(dataset: Dataset, root: Path, pattern: str) -> Path:
    """The first file with such a name at most two folders below the root."""
    for depth in ("", "*/", "*/*/"):
        found = _visible(root.glob(depth + pattern))
        if found:
            return found[0]
    raise UserError(f"{root} is not the dataset '{dataset.name}': there is no {pattern}", dataset.get_it)


def _visible(paths: Iterable[Path]) -> list[Path]:
    """The files among paths, sorted, without hidden ones such as the `._train.csv` of macOS."""
    return sorted(path for path in paths if path.name[0] != "." and path.is_file())


def _is_text(name: str) -> bool:
    """Whether a name from the disk is UTF-8; other bytes are surrogates in it."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _lines(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}", "download it again") from None
