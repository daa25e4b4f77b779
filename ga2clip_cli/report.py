"""`ga2clip report`: a run's settings, accuracies, confusions and wrong clips as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Device, NewestRun, Root, newest_run

EXAMPLES = (
    "ga2clip report runs/ga2",
    "ga2clip report runs/ga2 --out ga2.html",
    "ga2clip report runs/ga2 --eval ucf101-zero-shot-4x3 --root data/ucf101",
)


def report(
    run: NewestRun = None,
    measurement: Annotated[
        str | None,
        typer.Option(
            "--eval", metavar="NAME", help="The folder below RUN/eval to show [default: the run's own data]."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="The page [default: RUN/eval/NAME/report.html]."),
    ] = None,
    root: Root = None,
    device: Device = "auto",
) -> None:
    """Write a page about a run: accuracies, confusions, wrong clips.

    One HTML file with intervals, training curves, reliability, every class beside the zero-shot model, who is taken
    for whom, frames of wrong and unsure clips, and the settings; it needs no network. What `ga2clip eval` has not
    measured yet, the run or its untuned backbone, is measured first.
    """
    place = run or newest_run()
    from ga2clip.experiments.report_page import write_page

    page = write_page(place, measurement, out=out, root=root, device=device, progress=console.has_terminal())
    console.emit(str(page))
