"""`ga2clip compare`: runs as methods, with intervals over seeds and clips, and a test of every two."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import TableForm

EXAMPLES = (
    "ga2clip compare runs/zero-shot runs/ga2",
    "ga2clip compare runs/ivlp/seed-1 runs/ivlp/seed-2 runs/ga2/seed-1 runs/ga2/seed-2 --plot methods.png",
    "ga2clip compare runs/ivlp runs/ga2 --format latex",
    "ga2clip compare runs/season --format markdown",
    "ga2clip compare runs/ivlp runs/ga2 --eval ucf101-zero-shot-4x3 --format csv",
)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders that training wrote, or folders of them, as --seeds and `sweep` leave.",
        ),
    ],
    measurement: Annotated[
        str | None,
        typer.Option(
            "--eval", metavar="NAME", help="The folder below RUN/eval to take [default: the run's own data]."
        ),
    ] = None,
    form: TableForm = "text",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw means and intervals as well: .png, .pdf or .svg."),
    ] = None,
) -> None:
    """Compare runs that `ga2clip eval` has measured.

    Runs that differ in their seed alone are one method: its mean has a 95 % interval over seeds and clips. Every two
    methods are tested in pairs: by a paired t-test over the seeds that both have, with one such seed by McNemar's
    exact test on its clips.
    """
    from ga2clip.experiments.compare import compare as compare_runs
    from ga2clip.experiments.compare_tables import draw, render
    from ga2clip.run import runs_in

    comparison = compare_runs(runs_in(runs), measurement)
    text = render(comparison, form)
    if plot is not None:
        draw(comparison, plot)
    console.emit(text)
