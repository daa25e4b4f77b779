"""`ga2clip methods`: the table of methods, what each is made of and how much it trains."""

from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson

EXAMPLES = ("ga2clip methods", "ga2clip methods coop", "ga2clip methods --backbone ViT-B-16 --json")


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[METHOD]", help="Show one method, with its authors' settings.")
    ] = None,
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="tiny (built in) or an open_clip architecture.")
    ] = "tiny",
    as_json: AsJson = False,
) -> None:
    """List the methods and what they are made of.

    Parts are prompt tokens × layers. Coupling, anchors and the scenario term can be put on any of them: see
    --couple, --anchors and --scenario-weight of `ga2clip train`. The settings that a method's authors publish are
    those of `ga2clip train --preset authors`.
    """
    from ga2clip.model.overview import method_table

    rows = method_table(backbone, only=name)
    if as_json:
        console.emit_json([row.to_json() for row in rows])
        return
    lines = [(row.name, f"{row.parameters:,}", row.parts, row.losses) for row in rows]
    console.emit(console.table(("method", "trains", "made of", "loss"), lines))
    if name is not None:
        from ga2clip.training.configure import authors_methods, authors_text

        console.emit(f"\n{rows[0].summary}; {rows[0].source}")
        known = name in authors_methods()
        console.emit(f"\n{authors_text(name)}" if known else "\nno settings of its authors to take")
