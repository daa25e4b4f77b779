"""The user's own clips, with a CSV that lists them: whole files, or spans of long ones."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ga2clip.data.declaration import Dataset, Listing, Source
from ga2clip.data.listing import SPLIT_NAMES, Row, own_splits
from ga2clip.data.manifest import relative_path
from ga2clip.errors import UserError
from ga2clip.label_files import read_rows
from ga2clip.registry import DATASETS
from ga2clip.text import csv_value, printable

logger = logging.getLogger(__name__)

_WITHOUT_HEADER = ("path", "label", "split")
_COLUMNS = (*_WITHOUT_HEADER, "group", "start", "end")
_OF_PREDICTIONS = "score"
"""A column that `predict --timeline` writes and nobody needs here."""
_NO_CLASS = "none of these"
"""The answer of `predict --reject`, which is no class."""


def read(source: Source) -> Listing:
    """Lines `path,label` or `path,label,split`; or a header with these columns and `group`, `start`, `end`.

    Tabs or semicolons are allowed, too. `start` and `end` are seconds from the file's first frame. Spans of one file
    are one group, if no other is given. Spans without a label, as `predict --timeline` writes for gaps, and those that
    are "none of these" are left out.
    """
    file = source.list_file
    if file is None:
        raise source.refuse("the dataset 'csv' needs a list of clips")
    rows: list[Row] = []
    missing, unlabelled = [], 0
    for where, cells in _lines(source, file):
        row = _row(source, where, cells)
        if row is None:
            unlabelled += 1
        elif (path := _found(source.root, row, file)) is None:
            missing.append(row.path)
        else:
            group = row.group or (path if row.span and not source.group_pattern else "")
            rows.append(row._replace(path=path, group=group))
    if rows and all(row.label.isdecimal() for row in rows):
        raise UserError(
            f"{file} has numbers for labels, not class names",
            "write the class names; or prepare the folder without the list, and train with --split-file LIST "
            "and --labels NAMES",
        )
    notes = [f"{unlabelled} spans without a class are left out"] if unlabelled else []
    return own_splits(
        rows,
        source.seed,
        lambda raw: " ".join(raw.split()),
        missing,
        pattern=source.group_pattern,
        notes=notes,
    )


def _lines(source: Source, file: Path) -> list[tuple[str, dict[str, str]]]:
    """(place in the file, cell by column) for each clip."""
    lines = read_rows(file, "list")
    head = [cell.lower() for cell in lines[0][1]] if lines else []
    if not {"path", "label"} <= set(head):
        return [_cells(source, file, number, cells, ()) for number, cells in lines]
    ignored = [name for name in head if name not in (*_COLUMNS, _OF_PREDICTIONS)]
    if ignored:
        logger.warning("%s: column '%s' is not read", printable(file), printable(ignored[0]))
    return [_cells(source, file, number, cells, head) for number, cells in lines[1:]]


def _cells(
    source: Source, file: Path, number: int, cells: Sequence[str], head: Sequence[str]
) -> tuple[str, dict[str, str]]:
    if len(cells) != len(head) if head else len(cells) not in (2, 3):
        expected = ",".join(head) if head else "path,label or path,label,split"
        raise source.refuse(f"{file}, line {number}: expected {expected}")
    return f"{file}, line {number}", dict(zip(head or _WITHOUT_HEADER, cells, strict=False))


def _row(source: Source, where: str, cells: Mapping[str, str]) -> Row | None:
    """The clip of a line; None for a span without a class."""
    label, split = csv_value(cells["label"]), cells.get("split", "")
    span = _span(source, where, cells.get("start", ""), cells.get("end", ""))
    if span is not None and label in ("", _NO_CLASS):
        return None
    given = SPLIT_NAMES.get(split.lower(), "")
    if not label or (split and not given):
        raise source.refuse(f"{where}: expected {','.join(cells)}")
    return Row(cells["path"], label, given, cells.get("group", ""), span)


def _span(source: Source, where: str, start: str, end: str) -> tuple[float, float] | None:
    if not start and not end:
        return None
    try:
        span = (round(float(start), 3), round(float(end), 3))
    except ValueError:
        span = (math.nan, math.nan)
    if not 0 <= span[0] < span[1] < math.inf:
        raise source.refuse(
            f"{where}: '{start}' to '{end}' is no span: expected seconds, the start before the end"
        )
    return span


def _found(root: Path, row: Row, file: Path) -> str | None:
    """The path of a listed clip relative to the root; None if it is nowhere.

    Paths are relative to the root; those of spans, as timelines have them, else to the working folder or to that of
    the list. Lists may come from Windows, and cells from a writer that guards against formulas.
    """
    folders = (root, Path(), file.parent) if row.span else (root,)
    for name in dict.fromkeys((row.path, row.path.replace("\\", "/"), csv_value(row.path))):
        for folder in folders:
            if os.path.isfile(folder / name):
                return relative_path(folder / name, root)
    return None


DATASETS.register("csv")(
    Dataset(
        name="csv",
        get_it="""Give --list FILE: a CSV with a line path,label or path,label,split for each clip; paths are relative
to --root; split is train, val or test, and without it a share of each class is set aside for testing. With a header
the columns group (clips of one recording stay together), start and end (seconds: the clip is a span of the file) may
stand beside them.""",
        read=read,
        takes_list=True,
    )
)
