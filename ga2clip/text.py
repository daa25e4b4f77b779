"""Makes untrusted text (names of files, classes, methods) safe to show on a terminal and in a spreadsheet."""

import csv
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""The start of a cell that a spreadsheet would run as a formula, also after apostrophes of an earlier escaping."""


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """The name on one line of plain text.

    Line breaks, terminal control sequences, invisible characters and bytes that are not UTF-8 become escapes such
    as `\\x1b`, so that any name can be logged and printed. It is idempotent.
    """
    text = os.fsdecode(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """`printable` for each line of a text: line breaks are kept, for tables and messages."""
    return "\n".join(map(printable, text.split("\n")))


def csv_cell(text: str) -> str:
    """The text escaped so that no spreadsheet runs it: an apostrophe before text that starts with `= + - @`, tab or CR.

    Text that starts with apostrophes and then one of these gets one more, so that `csv_value` can undo the escaping.
    See OWASP, "CSV Injection".
    """
    return f"'{text}" if _FORMULA.match(text) else text


def csv_value(cell: str) -> str:
    """The original text of a cell that `csv_cell` escaped."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV (RFC 4180 quotes, lines end in LF); every text is escaped by `csv_cell`, numbers are not."""
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(
        [csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return "".join(lines)


class _Lines(list[str]):
    """The file that `csv` writes to. (`csv` only quotes a lone CR in a cell if lines end in CR LF.)"""

    def write(self, line: str) -> None:
        """Add a line, ending in LF."""
        self.append(line.removesuffix("\r\n") + "\n")


def some(names: Sequence[str]) -> str:
    """The first six names of a list, and how many more there are."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def counted(number: int, noun: str) -> str:
    """A number of things in words: "1 clip", "2 clips", "1,000 classes"."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith('ss') else 's'}"


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `json.loads`. Raises ValueError for a key that occurs twice."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"'{printable(next(key for key in keys if keys.count(key) > 1))[:60]}' occurs twice")
    return tree
