"""`ga2clip reproduce`: the rows of the paper's tables for a dataset, ours beside theirs."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Device, Overrides, Root, TableForm, sets_seed

EXAMPLES = (
    "ga2clip reproduce ucf101 --dry-run",
    "ga2clip reproduce hmdb51 --root data/hmdb51 --seed 1",
    "ga2clip reproduce ssv2 --set backbone.pretrained=ViT-B-16.pt",
)


def reproduce(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="{published}.")],
    root: Root = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs.")] = Path("runs/reproduce"),
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Repeatable [default: 1, 2 and 3].")
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    form: TableForm = "text",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show commands, data and time needed, and stop.")
    ] = False,
) -> None:
    """Run the experiments of the paper's tables for a dataset.

    Prints our results beside the published ones, and writes the table into the folder of the runs. What is done is
    not done again; stopped runs are continued.
    """
    if sets_seed(overrides):
        raise typer.BadParameter("every run has its own seed: give --seed, not --set training.seed")
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise typer.BadParameter("a seed is given twice, and would count as two")
    from ga2clip.experiments.reproduce import Setup, describe, plan, table
    from ga2clip.experiments.reproduce import reproduce as run_rows
    from ga2clip.experiments.tables import check_form, write_table

    check_form(form)
    rows = plan(dataset)
    setup = Setup(out, "" if root is None else str(root), seeds or (1, 2, 3), overrides or ())
    if dry_run:
        console.emit(describe(rows, setup, device=device))
        return
    results = run_rows(rows, setup, device=device, progress=console.has_terminal())
    text = table(results, form)
    console.note(f"table: {write_table(out, text, form)}")
    console.emit(text)
