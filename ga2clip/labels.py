"""Class names: from files and from datasets' labels, checked, and filled into prompt sentences."""

import re
from collections.abc import Iterable
from pathlib import Path

from ga2clip.errors import UserError
from ga2clip.label_files import read_labels

# Printable ASCII without HTML escapes: the tokenizer's cleaning leaves it as it is, and its words are easily found.
_PLAIN = re.compile(r"[ -%'-~]*")
_PLAIN_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^ a-z0-9]+")

SCENARIO_TEMPLATE = "a video of a person doing {}."
"""The sentence that frames a class name when no prompt is learned."""

_HOLE = re.compile(r"\{_?\}")
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
        earlier = first_line.setdefault(comparable(label.name), label.line)
        if earlier != label.line:
            raise UserError(
                f"class list {path}: '{label.name}' is on line {earlier} and again on line {label.line}",
                "delete one of them",
            )
    return [label.name for label in labels]


def check_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple, if CLIP can tell all of them apart.

    Raises:
        UserError: for anything but a list of texts, an empty list, an empty name, or two names that the tokenizer
            reads as the same words (it ignores case, blanks, Unicode's ways to write one character, and HTML
            escapes).
    """
    hint = 'such as ["juggling", "riding a bike"]'
    if isinstance(names, str | bytes):
        raise UserError(f"class names must be a list of texts, got the one text {names!r:.60}", hint)
    try:
        listed = tuple(names)
    except TypeError:
        raise UserError(f"class names must be a list of texts, got {type(names).__name__}", hint) from None
    if not listed:
        raise UserError("there are no class names", "give at least one")
    seen: dict[str, str] = {}
    for position, name in enumerate(listed, start=1):
        if not isinstance(name, str):
            kind = f"{type(name).__name__}, not a text"
            raise UserError(f"class name {position} of {len(listed)} is {kind}", hint)
        key = comparable(name)
        if not key:
            raise UserError(f"class name {position} of {len(listed)} is empty")
        if key in seen:
            raise UserError(
                f"class name {name!a} occurs twice (as {seen[key]!a}): the tokenizer reads both as '{key}'",
                "class names must differ",
            )
        seen[key] = name
    return listed


def readable_name(raw: str) -> str:
    """A dataset's label as words: `brush_hair` → `brush hair`, `TaiChi` → `tai chi`, `TVShow` → `TV show`.

    A label that already has blanks keeps its spelling (blanks are collapsed).
    """
    if " " in raw.strip():
        return " ".join(raw.split())
    words = _WORD_BOUNDARIES.sub(" ", re.sub(r"[_\-\s]+", " ", raw)).split()
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)


def fill(template: str, name: str) -> str:
    """The template with its one `{}` or `{_}` replaced by the class name (whose own braces stay as they are).

    Underscores of the name become blanks in `{}`, as in CoOp (IJCV 2022) and the methods after it. `{_}` keeps
    them, as ViFi-CLIP (CVPR 2023) does where it learns no prompts.
    Errors: UserError for a template that doesn't have exactly one of them.
    """
    holes = _HOLE.findall(template)
    if len(holes) != 1:
        raise UserError(
            f"the template '{template}' must have exactly one {{}} for the class name",
            f"such as '{SCENARIO_TEMPLATE}'",
        )
    return template.replace(holes[0], name if holes[0] == "{_}" else name.replace("_", " "))


def comparable(name: str) -> str:
    """The words that CLIP's tokenizer sees, joined by blanks: names for which they are equal get the same feature."""
    text = name.replace("_", " ")
    if _PLAIN.fullmatch(text):
        return " ".join(_PLAIN_WORDS.findall(text.lower()))
    # Brings ftfy and regex, which most class lists don't need.
    from ga2clip.tokenizer import split_words

    return " ".join(split_words(text))
