"""Lists the clips of a dataset below a folder; helpers for the readers in `datasets/`.

Nothing is decoded here. Videos are searched by name anywhere below the root, since archives are unpacked in many ways;
the official annotation files say which of them belong to the dataset.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.data.declaration import Dataset, Entry, Listing, Source
from ga2clip.data.manifest import relative_path
from ga2clip.errors import UserError
from ga2clip.labels import check_class_names
from ga2clip.video import bare_name, find_videos

logger = logging.getLogger(__name__)

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders and values of the column `split`, in lower case → split."""
_TEST_SHARE = 0.25


def scan(dataset: Dataset, root: Path, *, list_file: Path | None = None, seed: int = 0) -> Listing:
    """The clips of a dataset below `root`.

    Args:
        dataset: one that is read, not generated.
        root: the folder.
        list_file: the CSV, for the dataset `csv`.
        seed: for drawing test clips if the folder has no split of its own.

    Raises:
        UserError: the folder doesn't have the expected layout; the hint says where to get the data.
    """
    assert dataset.read is not None
    source = Source(dataset, root, list_file, seed)
    if not root.is_dir():
        raise source.refuse(f"there is no folder {root}")
    try:
        listing = _one_label_each(dataset.read(source))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or root}: {error.strerror}") from None
    if not listing.entries:
        raise source.refuse(f"{root} holds none of the videos of '{dataset.name}'")
    check_class_names(listing.classes, root)
    if dataset.classes and len(listing.classes) != dataset.classes:
        logger.warning(
            "%s has %d classes, '%s' has %d", root, len(listing.classes), dataset.name, dataset.classes
        )
    return listing


def _one_label_each(listing: Listing) -> Listing:
    """The listing with every clip once, without clips that have several labels or splits.

    It is unknown which label is right, so using one of them in training or evaluation would be a guess.
    """
    named: dict[str, dict[Entry, None]] = defaultdict(dict)
    for entry in listing.entries:
        named[entry.path][entry] = None
    contradictory = tuple((path, _difference(list(ways))) for path, ways in named.items() if len(ways) > 1)
    entries = tuple(next(iter(ways)) for ways in named.values() if len(ways) == 1)
    return replace(listing, entries=entries, contradictory=contradictory)


def _difference(ways: Sequence[Entry]) -> str:
    labels = sorted({entry.label for entry in ways})
    splits = sorted({entry.split for entry in ways})
    return f"labels: {', '.join(labels)}" if len(labels) > 1 else f"listed for {' and '.join(splits)}"


def official_splits(
    source: Source, rows: Iterable[tuple[str, str, str, Sequence[str]]], rule: str
) -> Listing:
    """The listing of a dataset with official lists of `class/file`.

    Args:
        source: where the files are.
        rows: (raw label, `class/file`, group, the clip's role in each official split).
        rule: a sentence that says how the splits were made.
    """
    videos = _by_name(source.root)
    entries, missing, labels = [], [], {}
    for raw, name, group, splits in rows:
        labels[raw] = source.dataset.readable(raw)
        path = _nearest(videos.get(bare_name(Path(name).name).casefold(), ()), name)
        if path is None:
            missing.append(name)
        else:
            first, *others = splits
            place = relative_path(path, source.root)
            entries.append(Entry(place, labels[raw], first, group, tuple(others)))
    raw_names = tuple(sorted(labels))
    return Listing(raw_names, tuple(labels[raw] for raw in raw_names), tuple(entries), tuple(missing), rule)


def own_splits(
    rows: Sequence[tuple[str, str, str]],
    seed: int,
    name: Callable[[str], str],
    missing: Iterable[str] = (),
) -> Listing:
    """The listing of the user's own clips.

    Args:
        rows: (path, raw label, split or ""). Clips without a split are divided into training and test clips at
            random, in each class.
        seed: of that division.
        name: the readable name of a raw label.
        missing: clips of a list without a file.
    """
    labels = {raw: name(raw) for raw in sorted({raw for _, raw, _ in rows})}
    drawn = _draw_test([(path, raw) for path, raw, split in rows if not split], seed)
    entries = tuple(Entry(path, labels[raw], split or drawn[path]) for path, raw, split in rows)
    splits = {entry.split for entry in entries}
    rule = (
        f"{_TEST_SHARE:.0%} of each class drawn for testing with seed {seed}" if drawn else "the given splits"
    )
    test_split = "test" if "test" in splits else "val"
    return Listing(tuple(labels), tuple(labels.values()), entries, tuple(missing), rule, test_split)


def annotation_file(source: Source, pattern: str) -> Path:
    """The first file that matches `pattern`, in the root or at most two folders below it.

    Raises:
        UserError: there is none.
    """
    for depth in ("", "*/", "*/*/"):
        files = visible_files(source.root.glob(depth + pattern))
        if files:
            return files[0]
    raise source.refuse(f"{source.root} is not the dataset '{source.dataset.name}': there is no {pattern}")


def visible_files(paths: Iterable[Path]) -> list[Path]:
    """The files among paths, sorted, without hidden ones such as the `._train.csv` of macOS."""
    return sorted(path for path in paths if path.name[0] != "." and path.is_file())


def text_lines(file: Path) -> list[str]:
    """The lines of an annotation file, stripped, without empty ones. Raises UserError when it can't be read."""
    text = _content(file).decode("utf-8-sig", "surrogateescape")
    return [line.strip() for line in text.splitlines() if line.strip()]


def json_tree(file: Path) -> Any:
    """The content of a JSON annotation file. Raises UserError when it can't be read or is not JSON."""
    try:
        return json.loads(_content(file).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON: {error}", "download it again") from None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None


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


def _by_name(root: Path) -> Mapping[str, list[Path]]:
    """Videos by file name without case and extension, since clips are often converted."""
    videos: dict[str, list[Path]] = defaultdict(list)
    for path in find_videos(root):
        videos[bare_name(path.name).casefold()].append(path)
    return videos


def _nearest(candidates: Sequence[Path], name: str) -> Path | None:
    """The candidate with the same folder and name, else one in the same folder, else any."""
    exact = [path for path in candidates if path.as_posix().endswith("/" + name)]
    folder = "/" + name.casefold().rpartition("/")[0] + "/"
    placed = [path for path in candidates if folder in path.as_posix().casefold()]
    chosen = exact or placed or candidates
    return chosen[0] if chosen else None
