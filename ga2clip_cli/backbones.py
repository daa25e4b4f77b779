"""`ga2clip backbones`: a table of the backbones that can be used."""

from typing import TYPE_CHECKING, Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson

if TYPE_CHECKING:
    from ga2clip.model.backbone_table import BackboneRow

EXAMPLES = ("ga2clip backbones", "ga2clip backbones ViT-B-16", "ga2clip backbones --markdown")


def backbones(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show one backbone, with its published weights.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown tables.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the backbones: size, cost, support, licences.

    Parameters are those of both towers in millions, GFLOP those of one frame (a multiply-add is two). "text side": text
    prompts, the linear probe, full tuning and export work, vision prompts don't.
    """
    from ga2clip.model.backbone_table import HEAD, as_markdown, backbone_table

    rows = backbone_table(name)
    if as_json and markdown:
        raise typer.BadParameter("--json and --markdown exclude each other")
    if as_json:
        console.emit_json([row.to_json() for row in rows])
    elif markdown:
        console.emit(as_markdown(rows).rstrip())
    else:
        console.emit(console.table(HEAD, [row.cells for row in rows]))
        if name is not None:
            console.emit("\n".join(_weights(rows[0])))


def _weights(row: "BackboneRow") -> list[str]:
    lines = ["", f"not everything is supported: {row.reason}"] if row.reason else []
    if not row.licences:
        return [*lines, "", "open_clip knows no published weights"]
    table = [(tag, licence.name, licence.source) for tag, licence in row.licences.items()]
    return [*lines, "", console.table(("weights", "licence", "says"), table)]
