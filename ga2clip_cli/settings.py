"""`ga2clip settings`: every setting with its type, its default and what it means."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson

if TYPE_CHECKING:
    from ga2clip.settings_table import SectionTable

EXAMPLES = ("ga2clip settings", "ga2clip settings training", "ga2clip settings --markdown")


def settings(
    section: Annotated[
        str | None, typer.Argument(metavar="[SECTION]", help="Show one section, such as training.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown tables.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the settings that recipes, --set and settings.toml have.

    Defaults are those without a recipe; `ga2clip train --dry-run` and a run's settings.toml show what counts for a
    training.
    """
    from ga2clip.settings_table import as_markdown, setting_tables

    tables = setting_tables(section)
    if as_json and markdown:
        raise typer.BadParameter("--json and --markdown exclude each other")
    if as_json:
        lines = [line for table in tables for line in table.lines]
        console.emit_json([vars(line) for line in lines])
    elif markdown:
        console.emit(as_markdown(tables).rstrip())
    else:
        console.emit("\n\n".join(map(_text, tables)))


def _text(table: "SectionTable") -> str:
    """A section: two lines a setting, since meanings are longer than columns."""
    lines = [f"[{table.name}] {table.about}"]
    for line in table.lines:
        lines += [f"  {line.name}  ({line.type}; default {line.default})"]
        lines += textwrap.wrap(line.meaning, 96, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
