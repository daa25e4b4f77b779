"""`ga2clip sweep`: the runs of a file, trained and measured, and a table of them."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Device, TableForm

EXAMPLES = (
    "ga2clip sweep season.toml --dry-run",
    "ga2clip sweep season.toml",
    "ga2clip sweep season.toml --format latex",
)


def sweep(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.toml", help="Methods, datasets, seeds, settings, and those to vary."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the runs [default: runs/FILE].")
    ] = None,
    device: Device = "auto",
    form: TableForm = "text",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs with what is left and its time, and stop.")
    ] = False,
) -> None:
    """Train and measure methods on datasets, with seeds and settings.

    The file has methods = ["vpt", "ga2"], datasets = ["stickfigures"], seeds = "1..3", [settings] for all runs and
    [vary] with lists of values. What is done is not done again, so a stopped sweep goes on by the same command, and a
    longer file trains what is new; a run of other settings is refused. A run that fails does not keep the others from
    being done. Prints what `ga2clip compare` does, and writes it into the folder of the runs.
    """
    from ga2clip.experiments.jobs import RunsFailedError, describe_jobs, run_jobs
    from ga2clip.experiments.sweep import read_sweep, table
    from ga2clip.experiments.tables import check_form, write_table

    check_form(form)
    asked = read_sweep(file, out)
    if dry_run:
        console.emit(describe_jobs(asked.jobs, device=device))
        return
    failure = None
    try:
        measured = run_jobs(asked.jobs, device=device, progress=console.has_terminal())
    except RunsFailedError as error:
        failure, measured = error, list(error.measured)
    if measured:
        text = table(measured, form)
        console.note(f"table: {write_table(asked.out, text, form)}")
        console.emit(text)
    if failure is not None:
        raise failure
