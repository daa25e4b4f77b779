"""Reads class names and clip lists in the usual file formats; ambiguous files are refused with the reason.

Class names: one per line; `id,name` with commas, semicolons or tabs, with or without a header; consecutive numbers
before or after the names (`1 ApplyEyeMakeup` as in UCF101's `classInd.txt`, `c000 Holding`, `brush_hair 0`);
lists with bullets, quotes or commas at the ends of lines; JSON (`["name", …]`, `{"name": "0", …}` as in
Something-Something, `{"0": "name", …}`); `name` and `id` in braces as in AVA's `.pbtxt`.
Clip lists: `path label`, separated by a blank, a tab or a comma.
"""

import csv
import json
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ga2clip.errors import UserError

_SEPARATORS = ("\t", ",", ";")
_QUOTED = re.compile('"[^"]*"')
_ID = re.compile(r"\d{1,9}")
# A number before a name (also `class 0: run`, Charades' `c000 Holding`, NTU's `A1. drink`), or after it.
_BEFORE = re.compile(
    r"[\[(]?(?P<letter>(?:[A-Za-z]|(?i:class|label|action|id)[ _]?)?)(?P<id>\d{1,9})"
    r"(?P<gap>\s*(?:[-=]>|[,;:|=])\s*|[.)\]](?:\s+|(?=\D))|_(?=\D)|\s+[-–—]\s+|\s+)(?P<name>\S.*)"
)
_BEHIND = re.compile(r"(?P<name>\S.*)(?P<gap>[\s:=|_>])[\[(]?(?P<id>\d{1,9})[\])]?(?P<letter>)")
# A comma after every name, as in source code; a bullet before every name.
_COMMA_BEHIND = re.compile(r"(.*[^\s,;])\s*[,;]")
_WRAPPERS = (_COMMA_BEHIND, re.compile(r"[-*+•–—]\s+(.*)"))
# Lines that are not plain names: they begin with a bullet, markup, comment or bracket, end with a bracket, comma or
# colon, or hold columns, a URL, the path of a clip, or `name: "…`.
_SYNTAX = re.compile(
    r"[-*+•–—·✓✔<>|})\]=~`].*|/[/*].*|\[[ xX]?\].*|\[[^\[\]]*\]|'.*'|“.*”|[!-/:-@\[-`{-~]+"
    r"|.*[\[{(<=,;:]|.*(?:[|\\]|://).*|.*\.(?:mp4|avi|mkv|webm|mov)|\w+\s*[:=]\s*[\"'\[{(].*"
)
# `key: value` or `a) name`; refused if every line is of this form.
_KEY = re.compile(r"[A-Za-z_][\w-]*(?:\s+\d+)?\s*[:=]\s|[A-Za-z][.)]\s")
JSON_TEXT = re.compile(r"\s*(?:\{\s*(?:[\"'}\d]|$)|\[\s*(?:[\"'\[{\]]|$))")
_BLOCK = re.compile(r"\s*\w+\s*\{(?=[^{}:]*:)([^{}]*)\}\s*")
_FIELD = re.compile(r"(\w+)\s*:\s*(?:\"([^\"\n]*)\"|'([^'\n]*)'|(\w+))")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TWO_NUMBERS = re.compile(r".*[\s,;]\d+")
_ID_WORDS = {"", "id", "index", "idx", "number", "no", "class_id", "classid", "label_id", "class_index"}
_NAME_WORDS = {"name", "class_name", "classname", "label_name", "display_name"}
_NAMES_WORDS = {f"{word}s" for word in _NAME_WORDS}
# Header names of columns that hold numbers or names, depending on the other column.
_EITHER_WORDS = {"label", "class", "category", "action", "labels", "classes", "categories", "actions"}
_PATH_WORDS = {"path", "video", "video_path", "clip", "file", "filename"}
_FORMS = 'one name a line, or lines id,name, or JSON such as {"name": 0}'
_AS_NAMES = f"give {_FORMS}; if the lines are names as they stand, write 'name' as the first line"


@dataclass(frozen=True)
class Label:
    """A class name of a file.

    Attributes:
        name: as in the file, stripped.
        id: its number in the file; its position from 0 if the file has no numbers.
        line: the number of its line, from 1; in JSON, of its entry.
    """

    name: str
    id: int
    line: int


def read_text(path: Path, what: str) -> str:
    """The content of a UTF-8 text file.

    Args:
        path: the file.
        what: the kind of file for messages, such as "class list".

    Raises:
        UserError: it can't be read, is not UTF-8, or holds control characters, so that it is not a text file.
    """
    try:
        text = _content(path).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    for number, line in enumerate(_lines(text), start=1):
        if _CONTROL.search(line):
            raise UserError(
                f"{what} {path}, line {number}: a control character, so this is not a text file",
                "save it as UTF-8 text",
            )
    return text


def _content(path: Path) -> bytes:
    """A file's bytes. Those of a pipe, such as a shell's `<(…)`, are kept: it can be read once, by the first reader."""
    info = path.stat()
    return _piped(path, info.st_ino) if stat.S_ISFIFO(info.st_mode) else path.read_bytes()


@lru_cache(maxsize=4)
def _piped(path: Path, inode: int) -> bytes:  # noqa: ARG001 (tells pipes of one name apart)
    return path.read_bytes()


def read_rows(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """(line number, stripped cells) for each line of a delimited file that is not empty.

    The separator is the first of tab, comma and semicolon that every line has. Quotes are as in CSV.

    Raises:
        UserError: as `read_text`, or a quote is not closed.
    """
    lines = _numbered_lines(read_text(path, what))
    separator = _separator([line for _, line in lines])
    return [(number, _cells(line, separator, f"{what} {path}, line {number}")) for number, line in lines]


def read_labels(path: Path, what: str = "class list") -> list[Label]:
    """The class names in a file, in the order of their numbers.

    Numbers may start anywhere and have gaps (as in lists of base or novel classes), but must not repeat. Blank lines
    and `#` comments are skipped. After a first line `name`, every line is a name as it stands: names that all begin
    with numbers, or all contain commas, need this.

    Raises:
        UserError: the file can't be read, holds no name, or is ambiguous.
    """
    text = read_text(path, what)
    if path.suffix.lower() == ".json" or JSON_TEXT.match(text):
        labels = _from_json(text, f"{what} {path}")
    elif _BLOCK.match(text):
        labels = _from_blocks(text, f"{what} {path}")
    else:
        lines = [(n, line) for n, line in _numbered_lines(text) if not line.startswith("#")]
        if not lines:
            raise UserError(
                f"{what} {path} holds no class name", "write one class name a line; # begins a comment"
            )
        labels = _from_lines(lines, f"{what} {path}")
    for label in labels:
        if not label.name or _UNFIT.search(label.name):
            fault = "has control characters" if label.name else "is empty"
            raise UserError(f"{what} {path}, line {label.line}: the name {fault}")
    if all(_ID.fullmatch(label.name) for label in labels):
        raise UserError(f"{what} {path} holds numbers, not names", f"give {_FORMS}")
    repeated = [id for id, count in Counter(label.id for label in labels).items() if count > 1]
    if repeated:
        raise UserError(f"{what} {path}: id {repeated[0]} occurs twice", "every class needs its own number")
    return sorted(labels, key=lambda label: label.id)


def read_clip_list(path: Path) -> list[tuple[str, int]]:
    """The lines `path label` of a split list; the path may hold blanks and commas, and may be quoted.

    Raises:
        UserError: the file can't be read, is empty, or has a line without exactly one number after the path.
    """
    entries: list[tuple[str, int]] = []
    for number, line in _numbered_lines(read_text(path, "split list")):
        where = f"split list {path}, line {number}"
        cells = _path_and_labels(line, where)
        if (
            not entries
            and len(cells) == 2
            and cells[0].lower() in _PATH_WORDS
            and not _ID.fullmatch(cells[1])
        ):
            continue  # a header
        name, *labels = cells or [""]
        if len(labels) > 1:
            raise UserError(
                f"{where}: more than one number after the path: '{line[:80]}'",
                "a clip has one label: lists with several, or with frame counts, can't be used; "
                "a path that ends in a number must be quoted",
            )
        if not name or not labels or not _ID.fullmatch(labels[0]):
            raise UserError(f"{where}: expected 'path label', got '{line[:80]}'", "such as: run/clip 1.mp4 0")
        entries.append((name, int(labels[0])))
    if not entries:
        raise UserError(f"split list {path} is empty")
    return entries


def _path_and_labels(line: str, where: str) -> list[str]:
    """The path and the cells after it."""
    if "\t" in line or line.startswith('"'):
        separator = next((mark for mark in (*_SEPARATORS, " ") if mark in _QUOTED.sub("", line)), ",")
        return [cell for cell in _cells(line, separator, where) if cell]
    for mark in (",", ";", None):
        name, *label = line.rsplit(mark, 1)
        if label and _ID.fullmatch(label[0].strip()):
            more = _TWO_NUMBERS.fullmatch(name.rstrip())
            return [name.strip(), *(["?"] if more else []), label[0].strip()]
    return [cell.strip() for cell in line.rsplit("," if "," in line else None, 1)]


def _from_json(text: str, where: str) -> list[Label]:
    try:
        tree = json.loads(text, object_pairs_hook=JsonPairs)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON: {error}", f"give {_FORMS}") from None
    pairs: list[tuple[Any, Any]]
    if isinstance(tree, JsonPairs):
        pairs = [(key, value) if _is_id(value) else (value, key) for key, value in tree]
    elif isinstance(tree, list):
        pairs = [(name, number) for number, name in enumerate(tree)]
    else:
        pairs = [(None, None)]
    if not pairs:
        raise UserError(f"{where} holds no class name", f"give {_FORMS}")
    keys = Counter(key for key, _ in tree) if isinstance(tree, JsonPairs) else Counter[str]()
    if repeated := [key for key, count in keys.items() if count > 1]:
        raise UserError(f"{where}: '{repeated[0]}' occurs twice", "every class needs its own name and number")
    for number, (name, id) in enumerate(pairs, start=1):
        if not isinstance(name, str) or not _is_id(id):
            raise UserError(
                f"{where}, entry {number}: not a name, or not a name with its number", f"give {_FORMS}"
            )
    # The usual Kinetics file has its names in a second pair of quotes.
    return [Label(name.strip().strip('"').strip(), int(id), n) for n, (name, id) in enumerate(pairs, start=1)]


class JsonPairs(list[tuple[str, Any]]):
    """A JSON object as pairs, to keep repeated keys."""


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return _ID.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _from_blocks(text: str, where: str) -> list[Label]:
    """Labels of `item { name: "bend" id: 1 }`, the text form of protocol buffers."""
    labels = []
    place, line = 0, 1
    while place < len(text):
        block = _BLOCK.match(text, place)
        fields = {key.lower(): "".join(value) for key, *value in _FIELD.findall(block[1] if block else "")}
        ids = [value for key, value in fields.items() if key in _ID_WORDS]
        # TensorFlow's `name` is a code where there is a `display_name`.
        name = fields.get("display_name") or fields.get("name")
        if block is None or name is None or len(ids) != 1 or not _ID.fullmatch(ids[0]):
            raise UserError(
                f"{where}, line {line}: expected braces with one name and one id", f"give {_FORMS}"
            )
        labels.append(Label(name.strip(), int(ids[0]), line))
        line += text.count("\n", place, block.end())
        place = block.end()
    return labels


def _from_lines(lines: Sequence[tuple[int, str]], where: str) -> list[Label]:
    number, first = lines[0]
    header = first.strip('"').lower()
    if header in _EITHER_WORDS:
        raise UserError(
            f"{where}, line {number}: is '{first}' a header or a class?",
            "delete the line; or, if it is a class, write 'name' as the first line",
        )
    if header in _NAME_WORDS and len(lines) > 1:
        return _by_place(lines[1:], where)
    heading = header.removesuffix(":")  # as in YAML
    certain = _NAMES_WORDS if header == heading else _NAMES_WORDS | _NAME_WORDS | _EITHER_WORDS
    if heading in certain and len(lines) > 1:
        lines = lines[1:]
    columns = _columns(lines, where)
    if columns is not None:
        return _without_ids(columns)
    lines = _unwrapped(lines)
    labels = _without_ids(_numbered(lines, where) or _by_place(lines, where))
    pairs = len(lines) > 1 and all(_KEY.match(label.name) for label in labels)
    for label in labels:
        if pairs or _SYNTAX.fullmatch(label.name):
            raise UserError(
                f"{where}, line {label.line}: this looks like markup or code, not a name: '{label.name[:80]}'",
                _AS_NAMES,
            )
    return labels


def _by_place(lines: Sequence[tuple[int, str]], where: str) -> list[Label]:
    return [
        Label(_unquoted(line, f"{where}, line {number}"), place, number)
        for place, (number, line) in enumerate(lines)
    ]


def _unwrapped(lines: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str]]:
    """The lines without the comma or bullet that all of them have (the last needs no comma)."""
    for wrapper in _WRAPPERS:
        matches = [wrapper.fullmatch(line) for _, line in lines]
        *others, last = matches
        if all(others) and (last or (others and wrapper is _COMMA_BEHIND)):
            lines = [
                (number, match[1].strip() if match else line)
                for (number, line), match in zip(lines, matches, strict=True)
            ]
    return lines


def _numbered(lines: Sequence[tuple[int, str]], where: str) -> list[Label] | None:
    """The labels of lines that have a number before or after each name; None for other lines."""
    for pattern, verb in ((_BEFORE, "begins"), (_BEHIND, "ends")):
        matches = [pattern.fullmatch(line) for _, line in lines]
        found = [match for match in matches if match]
        ids = [int(match["id"]) for match in found]
        names = [match["name"] for match in found]
        if pattern is _BEHIND:
            names = [name.rstrip(" \t:=|->_") for name in names]
        if pattern is _BEHIND and len(set(names)) < len(names):
            continue  # 'front crawl 1' and 'front crawl 2': part of the names
        if len({match["letter"] for match in found}) != 1 or 2 * len(found) <= len(lines):
            continue
        blank = found[0]["gap"].isspace()
        if len(lines) == 1 and (pattern is _BEHIND or found[0]["letter"] or (blank and not _counts(ids))):
            continue  # '3 point shot'
        if len(found) < len(lines):
            if len(set(ids)) == len(ids) and max(ids) <= len(lines):
                number = next(number for (number, _), match in zip(lines, matches, strict=True) if not match)
                raise UserError(f"{where}, line {number}: no number, which the other lines have", _AS_NAMES)
            continue
        # One number may well belong to the name ('1 person walking'), and so may numbers behind names in any order.
        sure = len(lines) > 1 or not blank
        if not (sure and _counts(ids) and (pattern is _BEFORE or ids == sorted(ids))):
            if len(lines) == 1:
                raise UserError(f"{where}: is '{ids[0]}' the class's id or part of its name?", _AS_NAMES)
            raise UserError(f"{where}: every line {verb} with a number, but they don't count up", _AS_NAMES)
        return [
            Label(_unquoted(name, f"{where}, line {number}"), id, number)
            for (number, _), name, id in zip(lines, names, ids, strict=True)
        ]
    numbers_only = all(_ID.fullmatch(line) for _, line in lines)
    if len(lines) > 1 and not numbers_only and all(_ID.match(line) for _, line in lines):
        raise UserError(f"{where}: every line begins with a number, but they don't count up", _AS_NAMES)
    return None


def _counts(ids: Sequence[int]) -> bool:
    """Whether ids are 0, 1, 2, … or 1, 2, 3, … in any order."""
    return sorted(ids) in (list(range(len(ids))), list(range(1, len(ids) + 1)))


def _without_ids(labels: list[Label]) -> list[Label]:
    """The labels, whose names may repeat their ids (`1 001.Black`), without those."""
    matches = [_BEFORE.fullmatch(label.name) for label in labels]
    if len(labels) == 1 or not all(
        match and int(match["id"]) == label.id for match, label in zip(matches, labels, strict=True)
    ):
        return labels
    return [replace(label, name=match["name"]) for match, label in zip(matches, labels, strict=True) if match]


def _columns(lines: Sequence[tuple[int, str]], where: str) -> list[Label] | None:
    """The labels of a file with an id and a name column; None for a file without columns."""
    separator = _separator([line for _, line in lines])
    rows = [(number, _cells(line, separator, f"{where}, line {number}")) for number, line in lines]
    head = [cell.lower() for cell in rows[0][1]]
    header = len(head) > 1 and _header(head)
    if header:
        return list(_pick(rows[1:], header, len(head), where))
    pairs = [cells for _, cells in rows if len(cells) == 2]
    for column in (0, 1):
        with_id = sum(_ID.fullmatch(cells[column]) is not None for cells in pairs)
        # If most lines have an id, the other lines are mistakes; otherwise names may contain the separator.
        if with_id and 2 * with_id > len(rows):
            return list(_pick(rows, (column, 1 - column), 2, where))
    # Commas in some lines, or not as many in each, are part of names; a single line may be several classes or one.
    bare = [_QUOTED.sub("", line).rstrip(",; ") for _, line in lines]
    tight = re.compile(rf"\S{separator}\S")
    widths = {line.count(separator) for line in bare}
    if separator == "\t" or (0 not in widths and (len(widths) == 1 or all(map(tight.search, bare)))):
        number, line = next((n, line) for n, line in lines if separator in line)
        raise UserError(
            f"{where}, line {number}: several columns, and it is unclear which one has the names: '{line[:80]}'",
            _AS_NAMES,
        )
    return None


def _header(head: Sequence[str]) -> tuple[int, int] | None:
    """The indices of the id and name columns if these cells are a header, else None."""
    ids = [place for place, word in enumerate(head) if word in _ID_WORDS]
    names = [place for place, word in enumerate(head) if word in _NAME_WORDS | _NAMES_WORDS]
    either = [place for place, word in enumerate(head) if word in _EITHER_WORDS]
    ids, names = ids or (either if names else []), names or (either if ids else [])
    return (ids[0], names[0]) if ids and names else None


def _pick(
    rows: Sequence[tuple[int, list[str]]], columns: tuple[int, int], width: int, where: str
) -> Iterator[Label]:
    if not rows:
        raise UserError(f"{where} holds no class name", "there is only a header")
    for number, cells in rows:
        if len(cells) != width or not _ID.fullmatch(cells[columns[0]]):
            raise UserError(
                f"{where}, line {number}: expected the columns id,name",
                "the other lines have a number and a name; quote a name that holds the separator",
            )
        yield Label(cells[columns[1]], int(cells[columns[0]]), number)


def _separator(lines: Sequence[str]) -> str:
    """The first separator that every line has outside quotes, else the first that any line has, else the comma."""
    bare = [_QUOTED.sub("", line) for line in lines]
    for enough in (all, any):
        for mark in _SEPARATORS:
            if enough(mark in line for line in bare):
                return mark
    return ","


def _cells(line: str, separator: str, where: str) -> list[str]:
    try:
        [cells] = csv.reader([line], delimiter=separator, strict='"' in line, skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise UserError(f"{where}: {error}", "close every quote, and double those inside") from None
    return [cell.strip() for cell in cells]


def _unquoted(line: str, where: str) -> str:
    """The name without surrounding quotes."""
    if single := re.fullmatch("'([^']*)'", line):
        return single[1].strip()
    if not (line.startswith('"') and line.endswith('"') and len(line) > 1):
        return line
    return ", ".join(_cells(line, ",", where))


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    lines = enumerate((line.strip() for line in _lines(text)), start=1)
    return [(number, line) for number, line in lines if line]


def _lines(text: str) -> list[str]:
    """Lines, split at line breaks only; `splitlines` would also split at other control characters."""
    return re.split(r"\r\n|\n|\r", text)
