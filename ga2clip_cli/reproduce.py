"""`ga2clip reproduce`: the rows of the paper's tables for a dataset, ours beside theirs."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Overrides, Root

EXAMPLES = (
    "ga2clip reproduce ucf101 --dry-run",
    "ga2clip reproduce hmdb51 --root data/hmdb51 --seed 1",
    "ga2clip reproduce ssv2 --set backbone.pretrained=ViT-B-16.pt",
)


def reproduce(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="ucf101, hmdb51, ssv2 or kinetics400.")],
    root: Root = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs.")] = Path("runs/reproduce"),
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Repeatable [default: 1, 2 and 3].")
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show commands, data and time needed, and stop.")
    ] = False,
) -> None:
    """Run the experiments of the paper's tables for a dataset.

    Prints our results beside the published ones. Finished runs are only tested; stopped runs are continued.
    """
    from ga2clip.experiments.reproduce import describe, plan, table
    from ga2clip.experiments.reproduce import reproduce as run_rows

    rows = plan(dataset)
    place, numbers, settings = "" if root is None else str(root), seeds or (1, 2, 3), overrides or ()
    if dry_run:
        console.emit(describe(rows, out, root=place, seeds=numbers, overrides=settings))
        return
    bar = console.has_terminal()
    results = run_rows(rows, out, root=place, seeds=numbers, overrides=settings, progress=bar)
    console.emit(table(results))
