"""`ga2clip eval`: accuracies of runs as a table or JSON; the details lie in each run's folder."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson, ClassNames, Descriptions, Device, Root, newest_run

EXAMPLES = (
    "ga2clip eval",
    "ga2clip eval runs/stickfigures-ga2-1",
    "ga2clip eval runs/zero-shot runs/ga2",
    "ga2clip eval runs/ga2 --protocol all --json",
    "ga2clip eval runs/ga2 --views 4x3",
    "ga2clip eval runs/k400 --protocol zero-shot --dataset ucf101 --root data/ucf101",
)


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="Folders that training wrote, or folders of them as --seeds leaves [default: the newest].",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="{protocols}, or all [default: the run's]."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another dataset than the run's: {datasets}.")
    ] = None,
    root: Root = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="CLIPSxCROPS", help="Views of a video to average, such as 4x3 [default: the run's]."
        ),
    ] = None,
    class_names: ClassNames = None,
    descriptions: Descriptions = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure runs: top-1, base, novel, harmonic mean, calibration.

    Test clips are those of the run's protocol, classes have the names that the run was tuned with, and the last
    epoch is what is measured. Intervals are 95 % over clips; further runs are compared with the first on the same
    clips. RUN/eval/DATASET-PROTOCOL (with -VIEWS and -NAMES, where they are others) gets report.json, clips.csv,
    per_class.csv, confusion.png and reliability.png. ECE says how far confidence is from accuracy, in points.
    """
    places = runs or [newest_run()]
    from ga2clip.evaluation.evaluate import evaluate_runs

    trees = []
    for measured in evaluate_runs(
        places,
        protocol=protocol,
        dataset=dataset,
        root=root,
        views=_views(views),
        class_names=class_names,
        descriptions=descriptions,
        device=device,
        progress=console.has_terminal(),
    ):
        if as_json:
            trees.append(measured.to_json())
        else:
            console.emit(measured.text() + "\n")
    if as_json:
        console.emit_json(trees[0] if len(trees) == 1 else trees)


def _views(text: str | None) -> tuple[int, int] | None:
    """`4x3` as (4, 3)."""
    if text is None:
        return None
    clips, _, crops = text.lower().partition("x")
    if not clips.isdecimal() or int(clips) < 1 or crops not in ("1", "3"):
        raise typer.BadParameter(f"--views is CLIPSxCROPS with 1 or 3 crops, such as 4x3, not '{text}'")
    return int(clips), int(crops)
