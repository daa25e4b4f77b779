"""Text from outside, shown on terminals and in spreadsheets."""

import csv
import io

import pytest

from ga2clip.text import counted, csv_cell, csv_lines, csv_value, printable, printable_lines

# What OWASP's "CSV Injection" names, and names that look as if they had been escaped already.
CELLS = {
    "=1+1": "'=1+1",
    "+49 30": "'+49 30",
    "-clip.mp4": "'-clip.mp4",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t=1",
    "\r=1": "'\r=1",
    "'=1+1": "''=1+1",
    "''@": "'''@",
    "'tis": "'tis",
    "'": "'",
    "": "",
    "a=b": "a=b",
    " =1": " =1",
    "übung": "übung",
}


@pytest.mark.parametrize(("text", "cell"), CELLS.items())
def test_formulas_are_escaped_and_come_back(text: str, cell: str) -> None:
    assert csv_cell(text) == cell
    assert csv_value(cell) == text
    assert csv_value(csv_cell(cell)) == cell


def test_rows_read_back_whatever_they_hold() -> None:
    rows = [[*CELLS], [*CELLS.values()], ["a,b", 'say "hi"', "two\nlines", "old\rmac", "dos\r\n"]]
    text = csv_lines(rows)
    read = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert [[csv_value(cell) for cell in row] for row in read] == rows
    assert text.endswith('"a,b","say ""hi""","two\nlines","old\rmac","dos\r\n"\n')
    assert csv_lines([[-1, 1e-7, None]]) == "-1,1e-07,\n"  # numbers are no text


def test_what_steers_a_terminal_is_shown() -> None:
    assert printable("red \x1b[31m\x9b1m\nline\ttab") == r"red \x1b[31m\x9b1m\nline\ttab"
    assert printable(b"\xff.mp4") == r"\udcff.mp4"
    assert printable("\u202egpj.exe\u200b\x7f") == r"\u202egpj.exe\u200b\x7f"
    assert printable("übung 跑步 🙂") == "übung 跑步 🙂"
    assert printable(printable("\x1b")) == printable("\x1b")
    assert printable_lines("one\x1b\n  two\r\n") == "one\\x1b\n  two\\r\n"


def test_one_thing_is_no_many() -> None:
    counts = (counted(1, "class"), counted(0, "class"), counted(2, "test clip"), counted(1000, "frame"))
    assert counts == ("1 class", "0 classes", "2 test clips", "1,000 frames")
