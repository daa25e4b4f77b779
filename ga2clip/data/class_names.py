"""A dataset's raw label goes in; a name that reads well in a sentence comes out.

Curated names are in `class_names.csv` (dataset,raw,name), where splitting camel case gives poor English.
"""

import csv
from functools import cache
from pathlib import Path

from ga2clip.labels import readable_name


def class_name(dataset: str, raw: str) -> str:
    """The curated name of a label, else its words."""
    return _curated().get((dataset, raw)) or readable_name(raw)


@cache
def _curated() -> dict[tuple[str, str], str]:
    with (Path(__file__).parent / "class_names.csv").open(encoding="utf-8", newline="") as file:
        return {(row["dataset"], row["raw"]): row["name"] for row in csv.DictReader(file)}
