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
from typing import Any, NamedTuple

from ga2clip.data.declaration import Dataset, Entry, Listing, Source
from ga2clip.data.draw import TEST_SHARE, draw_test
from ga2clip.data.groups import grouped
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


def scan(
    dataset: Dataset, root: Path, *, list_file: Path | None = None, seed: int = 0, group_pattern: str = ""
) -> Listing:
    """The clips of a dataset below `root`.

    Args:
        dataset: one that is read, not generated.
        root: the folder.
        list_file: the CSV, for the dataset `csv`.
        seed: for drawing test clips if the folder has no split of its own.
        group_pattern: a regular expression that finds the group in a file name; see `groups.grouped`.

    Raises:
        UserError: the folder doesn't have the expected layout; the hint says where to get the data. Or the pattern
            can't be used.
    """
    assert dataset.read is not None
    source = Source(dataset, root, list_file, seed, group_pattern)
    if not root.is_dir():
        raise source.refuse(f"there is no folder {root}")
    try:
        listing = _one_label_each(dataset.read(source))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or root}: {error.strerror}") from None
    if not listing.entries:
        raise source.refuse(f"{root} holds none of the videos of '{dataset.name}'")
    if group_pattern and not listing.own:
        raise UserError(f"'{dataset.name}' has its own splits and groups", "leave --group-pattern out")
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
        named[entry.id][entry] = None
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


class Row(NamedTuple):
    """A clip of the user's own. split: "" to draw it. group: clips of one recording share it. span: in seconds."""

    path: str
    label: str
    split: str = ""
    group: str = ""
    span: tuple[float, float] | None = None


def own_splits(
    rows: Iterable[Sequence[Any]],
    seed: int,
    name: Callable[[str], str],
    missing: Iterable[str] = (),
    *,
    pattern: str = "",
    notes: Iterable[str] = (),
) -> Listing:
    """The listing of the user's own clips.

    Args:
        rows: the fields of `Row`, from the path to as many as are known. Clips without a split are divided into
            training and test clips, in each class; clips of one group stay together.
        seed: of that division.
        name: the readable name of a raw label.
        missing: clips of a list without a file.
        pattern: finds the group in the file names of clips without one; see `groups.grouped`.
        notes: sentences for the user.

    Raises:
        UserError: a pattern that can't be used.
    """
    clips = [Row(*row) for row in rows]
    labels = {raw: name(raw) for raw in sorted({clip.label for clip in clips})}
    entries = tuple(
        Entry(c.path, labels[c.label], c.split, c.group, span=c.span, drawn=not c.split) for c in clips
    )
    said = list(notes)
    if pattern and entries:
        entries, without = grouped(entries, pattern)
        if without:
            said.append(
                f"--group-pattern matches no part of {without} file names: each is a group of its own"
            )
    drawn = any(entry.drawn for entry in entries)
    entries = draw_test(entries, seed)
    splits = {entry.split for entry in entries}
    rule = (
        f"{TEST_SHARE:.0%} of each class drawn for testing with seed {seed}" if drawn else "the given splits"
    )
    return Listing(
        tuple(labels),
        tuple(labels.values()),
        entries,
        tuple(missing),
        rule,
        "val" if "val" in splits and "test" not in splits else "test",
        own=True,
        notes=tuple(said),
    )


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
