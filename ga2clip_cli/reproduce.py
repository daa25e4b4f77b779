"""`ga2clip reproduce`: a dataset's name goes in; the rows of the paper's tables, ours beside theirs, come out."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli.options import AsJson, Root

EXAMPLES = (
    "ga2clip reproduce ucf101 --dry-run",
    "ga2clip reproduce hmdb51 --root data/hmdb51 --out runs/hmdb51",
)


def reproduce(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="ucf101, hmdb51, ssv2 or kinetics400.")],
    root: Root = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs.")] = Path("runs/reproduce"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show commands, data and time needed, and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the paper's tables for a dataset.

    Ours stand beside the published figures."""
