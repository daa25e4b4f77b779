"""`ga2clip methods`: a table of the methods with their parts and numbers of trainable parameters."""

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
    """List the methods with their parts.

    Prompts are given as tokens × layers. Coupling, anchors and the scenario term can be added to any method: see
    --couple, --anchors and --scenario-weight of `ga2clip train`; so can temporal pooling, which sees the order of the
    frames: --set method.pooling=trend. `ga2clip train --preset authors` uses the settings that a method's authors
    publish.
    """
    from ga2clip.model.method_table import method_table

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
        console.emit(f"\n{authors_text(name)}" if known else "\nits authors publish no settings")
