"""The user's own clips, with a CSV that lists them."""

import os

from ga2clip.data.declaration import Dataset, Listing, Source
from ga2clip.data.listing import SPLIT_NAMES, own_splits
from ga2clip.data.manifest import relative_path
from ga2clip.errors import UserError
from ga2clip.label_files import read_rows
from ga2clip.registry import DATASETS


def read(source: Source) -> Listing:
    """Read lines `path,label` or `path,label,split`, with or without a header; tabs or semicolons are allowed, too."""
    file, root = source.list_file, source.root
    if file is None:
        raise source.refuse("the dataset 'csv' needs a list of clips")
    rows, missing = [], []
    for number, row in _without_header(read_rows(file, "list")):
        path, label, split = (*row, "", "")[:3]
        given = SPLIT_NAMES.get(split.lower(), "")
        if len(row) not in (2, 3) or not label or (len(row) == 3 and not given):
            raise source.refuse(f"{file}, line {number}: expected path,label or path,label,split")
        if not os.path.isfile(root / path):
            path = path.replace("\\", "/")  # a list that was written on Windows
        if os.path.isfile(root / path):
            rows.append((relative_path(root / path, root), label, given))
        else:
            missing.append(path)
    if rows and all(label.isdecimal() for _, label, _ in rows):
        raise UserError(
            f"{file} has numbers for labels, not class names",
            "write the class names; or prepare the folder without the list, and train with --split-file LIST "
            "and --labels NAMES",
        )
    return own_splits(rows, source.seed, lambda raw: " ".join(raw.split()), missing)


def _without_header(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    has_header = bool(rows) and [cell.lower() for cell in rows[0][1][:2]] == ["path", "label"]
    return rows[1:] if has_header else rows


DATASETS.register("csv")(
    Dataset(
        name="csv",
        get_it="""Give --list FILE: a CSV with a line path,label or path,label,split for each clip; paths are relative
to --root; split is train, val or test, and without it a share of each class is set aside for testing.""",
        read=read,
    )
)
