"""Class names: from files and from datasets' labels, checked, and filled into prompt sentences."""

import re
from collections.abc import Sequence
from pathlib import Path

from ga2clip.errors import UserError
from ga2clip.label_files import read_labels

SCENARIO_TEMPLATE = "a video of a person doing {}."
"""The sentence that frames a class name when no prompt is learned."""

_WORD_BOUNDARIES = re.compile(
    r"(?<=[a-z])(?=[A-Z])"  # eye|Makeup
    r"|(?<=[A-Z])(?=[A-Z][a-z])"  # TV|Show
    r"|(?<=[a-z])(?=[0-9])"  # lap|2
    r"|(?<=[0-9])(?=[A-Z])"  # 2|Laps
)


def read_class_list(path: Path) -> list[str]:
    """The class names in a file, as written: one a line, or in another form of `ga2clip.label_files`.

    Names with numbers are put in the order of the numbers. Blank lines and `#` comments are skipped.

    Raises:
        UserError: the file can't be read or decoded, holds no name, is in a form of which it isn't clear what the
            names are, or holds a name twice (CLIP ignores case, so `Dog` and `dog` are the same name); the message
            gives the line numbers.
    """
    labels = read_labels(path)
    first_line: dict[str, int] = {}
    for label in sorted(labels, key=lambda label: label.line):
        earlier = first_line.setdefault(_comparable(label.name), label.line)
        if earlier != label.line:
            raise UserError(
                f"class list {path}: '{label.name}' is on line {earlier} and again on line {label.line}",
                "delete one of them",
            )
    return [label.name for label in labels]


def check_class_names(names: Sequence[str]) -> None:
    """Refuse a list of class names that can't be told apart.

    Errors: UserError for an empty list, an empty name, or two names that are equal to CLIP
    (which ignores case and repeated blanks).
    """
    if not names:
        raise UserError("there are no class names", "give at least one")
    seen: dict[str, str] = {}
    for position, name in enumerate(names, start=1):
        key = _comparable(name)
        if not key:
            raise UserError(f"class name {position} of {len(names)} is empty")
        if key in seen:
            raise UserError(f"class name '{name}' occurs twice (as '{seen[key]}')", "class names must differ")
        seen[key] = name


def readable_name(raw: str) -> str:
    """A dataset's label as words: `brush_hair` → `brush hair`, `TaiChi` → `tai chi`, `TVShow` → `TV show`.

    A label that already has blanks keeps its spelling (blanks are collapsed).
    """
    if " " in raw.strip():
        return " ".join(raw.split())
    words = _WORD_BOUNDARIES.sub(" ", re.sub(r"[_\-\s]+", " ", raw)).split()
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)


def fill(template: str, name: str) -> str:
    """The template with its one `{}` replaced by the class name (whose own braces stay as they are).

    Underscores of the name become blanks, as in CoOp (IJCV 2022) and the methods after it.
    Errors: UserError for a template that doesn't have exactly one `{}`.
    """
    if template.count("{}") != 1:
        raise UserError(
            f"the template '{template}' must have exactly one {{}} for the class name",
            f"such as '{SCENARIO_TEMPLATE}'",
        )
    return template.replace("{}", name.replace("_", " "))


def _comparable(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
