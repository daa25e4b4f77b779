"""The names of a dataset's classes: readable names, the dataset's own raw labels, or names from a file.

A method is tuned on the words of its class names, so evaluation and export must use the same kind of names as the run.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ga2clip.data.manifest import Manifest
from ga2clip.errors import UserError
from ga2clip.label_files import read_rows
from ga2clip.labels import check_class_names, comparable, letters, read_class_list, readable_name
from ga2clip.registry import DATASETS
from ga2clip.text import counted

_log = logging.getLogger(__name__)

READABLE, RAW = "readable", "raw"


def named(manifest: Manifest, class_names: str) -> Manifest:
    """The manifest with its classes, and the labels of its clips, named as `data.class_names` says.

    Args:
        manifest: with readable names.
        class_names: `readable`, `raw`, or a file: a class list in the order of the manifest's classes, or a line
            `raw,name` for each of them.

    Raises:
        UserError: the manifest has no raw names, raw names can't be told apart, or the file can't be read, lacks a
            class, or seems to be in another order.
    """
    if class_names == READABLE:
        return manifest
    if class_names == RAW:
        names = check_class_names(_raw_names(manifest), f"raw names of {manifest.root}")
    elif Path(class_names).is_file():
        names = check_class_names(_names_in(Path(class_names), manifest), class_names)
    else:
        raise UserError(f"no class names '{class_names}'", f"{READABLE}, {RAW}, or a file of names")
    return _renamed(manifest, names)


def named_as_tuned(manifest: Manifest, class_names: str, tuned: Sequence[str], *, sure: bool) -> Manifest:
    """As `named`, but with the names that a run was tuned on.

    Args:
        manifest: of the run's dataset, with readable names.
        class_names: the run's `data.class_names`.
        tuned: the names that it was tuned on: all classes of the dataset, or some.
        sure: whether `class_names` is known to be right; False for imported checkpoints, where it is a guess.

    Returns:
        The manifest with the first of these namings that contains all of `tuned`: `class_names`; one of the kinds
        readable, raw, and words of the raw labels; `tuned` itself, if it equals the class names up to case and
        punctuation. Names in `tuned` keep their spelling. If none fits (the dataset has changed) and `sure` is true,
        `class_names` is used, with a warning.

    Raises:
        UserError: none of these contains all names and `sure` is false; or as `named`.
    """
    own = {comparable(name): name for name in tuned}
    for names in _kinds(manifest, class_names):
        if own.keys() <= {comparable(name) for name in names}:
            return _renamed(manifest, [own.get(comparable(name), name) for name in names])
    spelled = _spelled_as(tuned, manifest)
    if None not in spelled and len(set(spelled)) == len(tuned):
        return _renamed(manifest, [str(name) for name in spelled])
    known = {letters(name) for names in _kinds(manifest, class_names) for name in names}
    stranger = next((name for name in tuned if letters(name) not in known), tuned[0])
    if sure and class_names in (READABLE, RAW):
        _log.warning("%s has no class '%s', which the run was tuned on", manifest.root, stranger)
        return named(manifest, class_names)
    raise UserError(
        f"the run was tuned on '{stranger}', which is not a class name of {manifest.dataset} in {manifest.root}",
        f"give the run's names for the {counted(len(manifest.classes), 'class')}: --class-names FILE with a line "
        f"raw,name for each (the first one is '{_raw_or_readable(manifest)[0]}'), or --class-names {READABLE} "
        "to test it with other names than its own",
    )


def described_as_named(
    table: Mapping[str, tuple[str, ...]], manifest: Manifest, readable: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Descriptions under the class names of a manifest, whichever of a class's names the table has them under.

    Args:
        table: sentences by a class's readable, raw or current name, in any spelling; other names stay as they are.
        manifest: with the names that are wanted.
        readable: the same classes' readable names.

    Raises:
        UserError: two names of the table belong to one class.
    """
    kinds = (readable, manifest.raw_names, manifest.classes)
    owners = {
        letters(name): owner for names in kinds for name, owner in zip(names, manifest.classes, strict=False)
    }
    result: dict[str, tuple[str, ...]] = {}
    for name, sentences in table.items():
        owner = owners.get(letters(name), name)
        if owner in result:
            raise UserError(
                f"the descriptions name the class '{owner}' twice, also as '{name}'", "delete one"
            )
        result[owner] = sentences
    return result


def kind_of_names(dataset: str, names: Iterable[str]) -> str:
    """`raw` if some of the names are raw labels whose readable names differ, else `readable`."""
    declared = DATASETS[dataset]
    raw = any(letters(declared.readable(name)) != letters(name) for name in names)
    return RAW if raw else READABLE


def _kinds(manifest: Manifest, class_names: str) -> Iterator[Sequence[str]]:
    yield named(manifest, class_names).classes
    yield manifest.classes
    if manifest.raw_names:
        yield manifest.raw_names
        yield [readable_name(name) for name in manifest.raw_names]


def _spelled_as(tuned: Iterable[str], manifest: Manifest) -> list[str | None]:
    """For each class, the tuned name that equals its readable or raw name up to case and punctuation, or None."""
    own = {letters(name): name for name in tuned}
    pairs = zip(manifest.classes, _raw_or_readable(manifest), strict=True)
    return [own.get(letters(readable)) or own.get(letters(raw)) for readable, raw in pairs]


def _raw_names(manifest: Manifest) -> tuple[str, ...]:
    if not manifest.raw_names:
        raise UserError(
            f"the manifest in {manifest.root} has no raw class names: an earlier version wrote it",
            f"ga2clip prepare --dataset {manifest.dataset} --root {manifest.root} adds them, without decoding again",
        )
    return manifest.raw_names


def _raw_or_readable(manifest: Manifest) -> tuple[str, ...]:
    return manifest.raw_names or manifest.classes


def _renamed(manifest: Manifest, names: Sequence[str]) -> Manifest:
    name: Mapping[str | None, str] = dict(zip(manifest.classes, names, strict=True))
    return replace(
        manifest,
        classes=tuple(names),
        base_classes=tuple(name[base] for base in manifest.base_classes),
        clips=tuple(replace(clip, label=name.get(clip.label)) for clip in manifest.clips),
    )


def _names_in(file: Path, manifest: Manifest) -> tuple[str, ...]:
    raw = _raw_or_readable(manifest)
    rows = [] if file.suffix.lower() == ".json" else [cells for _, cells in read_rows(file, "class names")]
    rows = rows[1:] if rows[:1] == [["raw", "name"]] else rows
    pairs = [cells for cells in rows if len(cells) == 2 and cells[0] in raw]
    if not pairs:
        return _in_order(file, read_class_list(file), manifest)
    names = dict(pairs)
    missing = next((label for label in raw if label not in names), None)
    if missing is not None:
        raise UserError(
            f"{file} has no line for the class '{missing}'", "write a line raw,name for each class"
        )
    if len(pairs) < len(rows) or len(names) < len(pairs):
        raise UserError(f"{file} must have exactly one line raw,name for each of the {len(raw)} classes")
    return tuple(names[label] for label in raw)


def _in_order(file: Path, lines: Sequence[str], manifest: Manifest) -> tuple[str, ...]:
    """The names of a list whose n-th line names the n-th class. Raises UserError if a line names another class."""
    if len(lines) != len(manifest.classes):
        raise UserError(
            f"{file} holds {counted(len(lines), 'name')}, "
            f"{manifest.dataset} has {counted(len(manifest.classes), 'class')}",
            "give a name for each class, in the dataset's order, or lines raw,name",
        )
    raw = _raw_or_readable(manifest)
    owners = {letters(name): index for names in (raw, manifest.classes) for index, name in enumerate(names)}
    for index, line in enumerate(lines):
        owner = owners.get(letters(line), index)
        if owner != index:
            raise UserError(
                f"{file} is not in the order of {manifest.dataset}'s classes: name {index + 1}, '{line}', is its "
                f"class {owner + 1}",
                "write a line raw,name for each class, then the order doesn't matter",
            )
    return tuple(lines)
