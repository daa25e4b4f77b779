"""Class names: reading them from files, checking them, and filling them into templates."""

import io
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path

from ga2clip.errors import UserError
from ga2clip.label_files import read_labels

# Printable ASCII without HTML escapes: the tokenizer's cleaning doesn't change it, so its words can be split here.
_PLAIN = re.compile(r"[ -%'-~]*")
_PLAIN_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^ a-z0-9]+")
_SURROGATE = re.compile("[\ud800-\udfff]")

SCENARIO_TEMPLATE = "a video of a person doing {}."
"""The template for class names when no prompt is learned."""
SCENARIO_PHRASE = SCENARIO_TEMPLATE.removesuffix(" {}.")
"""Its words before the name, from which text prompts start."""

_LIST_SUFFIXES = {".txt", ".csv", ".tsv", ".json", ".pbtxt"}

_HOLE = re.compile(r"\{_?\}")
_WORD_BOUNDARIES = re.compile(
    r"(?<=[a-z])(?=[A-Z])"  # eye|Makeup
    r"|(?<=[A-Z])(?=[A-Z][a-z])"  # TV|Show
    r"|(?<=[a-z])(?=[0-9])"  # lap|2
    r"|(?<=[0-9])(?=[A-Z])"  # 2|Laps
)


def read_class_list(path: Path) -> list[str]:
    """The class names in a file, unchanged: one per line, or in another format of `ga2clip.label_files`.

    Numbered names are sorted by number. Blank lines and `#` comments are skipped.

    Raises:
        UserError: the file can't be read, is not UTF-8, holds no name, is ambiguous, or holds a name twice (CLIP
            ignores case, so `Dog` and `dog` are the same name).
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


def names_or_file(text: str) -> list[str] | Path:
    """What `--classes` gives: names separated by commas, or the path of a file.

    A name of a file that exists is that file. Text with a comma is a list, unless a file is called so.

    Raises:
        UserError: a list that is also the name of a file, or that looks like one.
    """
    file = Path(text)
    names = [name.strip() for name in text.split(",")]
    if file.is_file() and len(names) > 1 and file.name == text:
        raise UserError(
            f"--classes '{text}' is a list of names and a file in this folder",
            f"write ./{text} for the file, or put the names into a file, one per line",
        )
    if file.is_file() or len(names) == 1:
        if not file.is_file() and not file.suffix and "/" not in text:
            raise UserError(
                f"there is no file '{text}' to read class names from",
                "names themselves are separated by commas: --classes 'juggling, riding a bike'",
            )
        return file
    if file.suffix.lower() in _LIST_SUFFIXES:
        raise UserError(f"there is no file '{text}' to read class names from")
    return list(check_class_names(names))


def check_class_names(names: object, where: str | os.PathLike[str] = "") -> tuple[str, ...]:
    """The names in the order given, each a plain `str`, after checking that everybody can tell all of them apart.

    Args:
        names: a list, or another sequence or iterator, of texts.
        where: the file or folder that holds them, for the message.

    Raises:
        UserError: anything else, or no names at all; a name that is empty, shows nothing or is not Unicode text; two
            names that the tokenizer reads as the same words (it ignores case, whitespace, Unicode normalisation, HTML
            escapes and control characters), or that differ only in invisible characters.
    """
    prefix = f"{where}: " if where else ""
    hint = 'such as ["juggling", "riding a bike"]'
    if isinstance(names, str | bytes):
        raise UserError(f"{prefix}class names must be a list of strings, got the string {names!r:.60}", hint)
    if isinstance(names, Set | Mapping | io.IOBase):
        raise UserError(
            f"{prefix}class names must be a list of strings, got {type(names).__name__}",
            "their order decides which probability is whose: make a list of it first",
        )
    try:
        listed: tuple[object, ...] = tuple(names)  # type: ignore[arg-type]
    except TypeError:
        message = f"{prefix}class names must be a list of strings, got {type(names).__name__}"
        raise UserError(message, hint) from None
    if not listed:
        raise UserError(f"{prefix}there are no class names", "give at least one")
    seen: dict[str, str] = {}
    for position, name in enumerate(listed, start=1):
        this = f"{prefix}class name {position} of {len(listed)} is"
        if not isinstance(name, str):
            raise UserError(f"{this} {type(name).__name__}, not a string", hint)
        if not is_unicode(name):
            raise UserError(
                f"{this} not Unicode text: {name!a}", "write it, and the file or folder, in UTF-8"
            )
        key = comparable(_visible(name))
        if not key:
            shows = f": {name!a} shows nothing" if name.strip() else ""
            raise UserError(f"{this} empty{shows}", "write the name of the class, such as 'juggling'")
        if key in seen:
            raise UserError(prefix + _confusion(name, seen[key]), "class names must differ")
        seen[key] = str.__str__(name)
    return tuple(seen.values())


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text: it has no halves of characters, which stand for bytes that were no text."""
    return not _SURROGATE.search(text)


def _visible(name: str) -> str:
    """Without soft hyphens, zero-width blanks and joiners, and the like (Unicode's default ignorable characters)."""
    if name.isascii():
        return name
    import regex  # a list of plain names does without

    return regex.sub(r"\p{Default_Ignorable_Code_Point}", "", name)


def _confusion(name: str, other: str) -> str:
    key = comparable(name)
    if key == comparable(other):
        return f"class name {name!a} occurs twice (as {other!a}): the tokenizer reads both as '{key}'"
    return f"class names {other!a} and {name!a} differ only in what can't be seen"


def readable_name(raw: str) -> str:
    """A dataset's label as words: `brush_hair` → `brush hair`, `TaiChi` → `tai chi`, `TVShow` → `TV show`.

    A label that contains blanks keeps its spelling (repeated blanks are collapsed).
    """
    if " " in raw.strip():
        return " ".join(raw.split())
    words = _WORD_BOUNDARIES.sub(" ", re.sub(r"[_\-\s]+", " ", raw)).split()
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)


def fill(template: str, name: str) -> str:
    """The template with its one `{}` or `{_}` replaced by the class name (braces in the name are kept).

    `{}` replaces underscores of the name by blanks, as CoOp (IJCV 2022) and later methods do. `{_}` keeps them, as
    ViFi-CLIP (CVPR 2023) does without learned prompts.
    Raises UserError for a template that doesn't have exactly one of them.
    """
    holes = _HOLE.findall(template)
    if len(holes) != 1:
        raise UserError(
            f"the template '{template}' must have exactly one {{}} for the class name",
            f"such as '{SCENARIO_TEMPLATE}'",
        )
    return template.replace(holes[0], name if holes[0] == "{_}" else name.replace("_", " "))


def comparable(name: str) -> str:
    """The words that CLIP's tokenizer reads, joined by blanks. Names with equal words get the same feature."""
    text = name.replace("_", " ")
    if _PLAIN.fullmatch(text):
        return " ".join(_PLAIN_WORDS.findall(text.lower()))
    # Imported here: it loads ftfy and regex, which most class lists don't need.
    from ga2clip.tokenizer import split_words

    return " ".join(split_words(text))


def letters(name: str) -> str:
    """A name in lower case without blanks and punctuation, to compare different spellings."""
    folded = unicodedata.normalize("NFC", name).casefold()
    return "".join(character for character in folded if unicodedata.category(character)[0] not in "PZ")


def unknown_words(
    names: Iterable[str], encode: Callable[[str], Sequence[int]], known: Collection[int]
) -> list[str]:
    """The words in class names that a text tower has never seen, each once: any of its tokens was not trained.

    encode: a word → its token ids. known: ids of the trained tokens; empty: all of them.
    """
    if not known:
        return []
    words = dict.fromkeys(word for name in names for word in re.findall(r"[^\W\d_]+", name))
    trained = frozenset(known)
    return [word for word in words if not trained.issuperset(encode(word))]
