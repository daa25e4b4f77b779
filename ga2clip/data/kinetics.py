"""The reader of all releases of Kinetics: annotation CSVs over YouTube clips (Kay et al., 2017).

Many links are dead, so a copy never has all clips of its lists.
"""

import csv
import re
from collections.abc import Iterator, Mapping

from ga2clip.data.declaration import Dataset, Entry, Listing, Source
from ga2clip.data.listing import SPLIT_NAMES, text_lines, visible_files
from ga2clip.data.manifest import relative_path
from ga2clip.video import bare_name, find_videos

_GET_IT = """Kinetics is a list of YouTube clips; most people take the CVDF copy:
https://github.com/cvdfoundation/kinetics-dataset
The folder must hold the annotation files train.csv and val.csv (label,youtube_id,time_start,time_end,split;
also under annotations/) and the clips <youtube_id>_<start>_<end>.mp4 anywhere below it, in class folders or flat."""
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}


def kinetics(classes: int) -> Dataset:
    """The declaration of the release with `classes` classes."""
    name = f"kinetics{classes}"
    return Dataset(name=name, get_it=_GET_IT, read=read, classes=classes, recipe=name)


def read(source: Source) -> Listing:
    """Read all CSVs with the columns label, youtube_id, time_start, time_end[, split]."""
    videos = {bare_name(path.name): path for path in find_videos(source.root)}
    entries: list[Entry] = []
    missing: list[str] = []
    raw_names: dict[str, str] = {}
    for split, row in _rows(source):
        label = " ".join(row["label"].replace("_", " ").split())
        raw_names.setdefault(label, row["label"])
        start, end = (round(float(row[column])) for column in ("time_start", "time_end"))
        stem = f"{row['youtube_id']}_{start:06d}_{end:06d}"
        names = (stem, f"{row['youtube_id']}_{start}_{end}", row["youtube_id"])
        path = next((videos[name] for name in names if name in videos), None)
        if path is None:
            missing.append(f"{split}/{stem}.mp4")
        else:
            entries.append(Entry(relative_path(path, source.root), label, split, row["youtube_id"]))
    rule = "the official training and validation lists; tested on validation, as is usual"
    classes = tuple(sorted(raw_names))
    return Listing(
        tuple(raw_names[name] for name in classes),
        classes,
        tuple(entries),
        tuple(missing),
        rule,
        test_split="val",
    )


def _rows(source: Source) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yields ("train" or "val", row) for the labelled clips; other CSVs are skipped."""
    annotated = False
    for file in visible_files([*source.root.glob("*.csv"), *source.root.glob("*/*.csv")]):
        reader = csv.DictReader(text_lines(file))
        if not _columns(reader) >= _COLUMNS:
            continue
        annotated = True
        guess = next((name for name in SPLIT_NAMES if name in file.stem.lower()), "")
        try:
            for row in reader:
                split = SPLIT_NAMES.get((row.get("split") or guess).strip().lower())
                if split in ("train", "val") and row["label"]:  # the test clips are not used
                    if not _is_number(row["time_start"]) or not _is_number(row["time_end"]):
                        raise source.refuse(f"{file}, line {reader.line_num}: times must be numbers")
                    yield split, row
        except csv.Error as error:
            raise source.refuse(f"{file}, line {reader.line_num}: {error}") from None
    if not annotated:
        raise source.refuse(f"{source.root} has no Kinetics annotation CSV")


def _columns(reader: "csv.DictReader[str]") -> set[str]:
    try:
        return set(reader.fieldnames or ())
    except csv.Error:
        return set()


def _is_number(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"\d{1,9}(\.\d*)?", text.strip()) is not None
