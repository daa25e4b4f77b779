"""Somebody's own clips with a list of them."""

import csv
from pathlib import Path

from ga2clip.data.declaration import Dataset, Listing, Source
from ga2clip.data.listing import SPLIT_NAMES, own_splits
from ga2clip.data.manifest import relative_path
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS


def read(source: Source) -> Listing:
    """Lines `path,label` or `path,label,split`, with or without that header."""
    file, root = source.list_file, source.root
    if file is None:
        raise source.refuse("the dataset 'csv' needs a list of clips")
    rows, missing = [], []
    lines: dict[str, int] = {}
    for number, row in _rows(file):
        path, label, split = (*row, "", "")[:3]
        given = SPLIT_NAMES.get(split.strip().lower(), "")
        if len(row) not in (2, 3) or not label.strip() or (len(row) == 3 and not given):
            raise source.refuse(f"{file}, line {number}: expected path,label or path,label,split")
        if not (root / path).exists():
            path = path.replace("\\", "/")  # a list that was written on Windows
        if lines.setdefault(path, number) != number:
            raise UserError(f"{file}: {path} is on line {lines[path]} and again on line {number}")
        if (root / path).exists():
            rows.append((relative_path(root / path, root), label.strip(), given))
        else:
            missing.append(path)
    return own_splits(rows, source.seed, lambda raw: " ".join(raw.split()), missing)


def _rows(file: Path) -> list[tuple[int, list[str]]]:
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


DATASETS.register("csv")(
    Dataset(
        name="csv",
        get_it="""Give --list FILE: a CSV with a line path,label or path,label,split for each clip; paths are relative
to --root; split is train, val or test, and without it a share of each class is set aside for testing.""",
        read=read,
    )
)
