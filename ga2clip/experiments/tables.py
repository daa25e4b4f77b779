"""Tables of texts with notes below them, as text, Markdown and LaTeX."""

import re
from collections.abc import Sequence
from pathlib import Path

from ga2clip.choices import TABLE_SUFFIXES
from ga2clip.errors import unknown_name
from ga2clip.files import write_text

Rows = Sequence[Sequence[str]]


def check_form(form: str) -> None:
    """Raises UserError for a name that is no format."""
    if form not in TABLE_SUFFIXES:
        raise unknown_name("format", form, TABLE_SUFFIXES)


def write_table(folder: Path, text: str, form: str) -> Path:
    """Write a table beside the runs that it is of, as `table` with the format's suffix. Raises as `write_text`."""
    path = folder / f"table{TABLE_SUFFIXES[form]}"
    write_text(path, text + "\n")
    return path


def as_text(tables: Sequence[Rows], notes: Sequence[str]) -> str:
    """Columns as wide as their longest cell."""
    return "\n\n".join([*map(_aligned, tables), "\n".join(notes)])


def as_markdown(tables: Sequence[Rows], notes: Sequence[str]) -> str:
    """Pipe tables; each note is a paragraph."""
    written = []
    for head, *rows in tables:
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, ["---"] * len(head), *rows)]
        written.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
    return "\n\n".join([*written, *notes])


def as_latex(tables: Sequence[Rows], notes: Sequence[str]) -> str:
    """A `tabular` each; notes are comments."""
    written = []
    for head, *rows in tables:
        lines = [" & ".join(map(_tex, row)) + r" \\" for row in (head, *rows)]
        body = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]
        written.append("\n".join([rf"\begin{{tabular}}{{{'l' * len(head)}}}", *body, r"\end{tabular}"]))
    return "\n\n".join([*written, "\n".join(f"% {note}" for note in notes)])


FORMS = {"text": as_text, "markdown": as_markdown, "latex": as_latex}
"""CSV is not among them: it has numbers where these have formatted texts."""


def _aligned(rows: Rows) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


_TEX = {
    "\\": r"\textbackslash{}",
    "–": "--",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def _tex(text: str) -> str:
    # A cell that starts with a bracket would be read as an option of the line before it.
    safe = re.sub(r"[\\–~^<>&%$#_{}]", lambda found: _TEX[found[0]], text)
    return f"{{}}{safe}" if safe.startswith("[") else safe
