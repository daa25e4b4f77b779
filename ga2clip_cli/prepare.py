"""`ga2clip prepare`: check every clip of a dataset's folder and write a manifest there."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Root

EXAMPLES = (
    "ga2clip prepare --dataset stickfigures",
    "ga2clip prepare --dataset ucf101 --root data/ucf101 --cache",
    "ga2clip prepare --dataset folder --root my-clips",
    "ga2clip prepare --dataset folder --root my-clips --group-pattern '(.+)_part[0-9]+'",
    "ga2clip prepare --dataset csv --root my-clips --list clips.csv",
)


def prepare(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="{datasets}.",
        ),
    ],
    root: Root = None,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="csv alone: path,label[,split], or a header that may add group, start, end (seconds).",
        ),
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="folder, csv: what its parentheses match in a file name is the recording; its clips stay together. "
            "It is remembered; '' forgets it.",
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Decode every clip once into a compact frame cache.")
    ] = False,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Decode broken clips again, even if their files did not change.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of generated clips and of drawn splits [default: that of before, or 0]."),
    ] = None,
    clips_per_class: Annotated[
        int | None,
        typer.Option(
            min=1, help="Generated datasets: training clips per class; half that number for testing."
        ),
    ] = None,
) -> None:
    """Check a dataset's clips and write its manifest.

    Every clip is decoded once; a stopped command continues where it was. Missing and broken clips are listed in a
    table and a CSV. A folder can be prepared again at any time: splits that were drawn stay, and what came, went or
    moved is said. If the data is missing, the hint says where to get it and how the folder must look.
    """
    from ga2clip.data.declaration import Size
    from ga2clip.data.prepare import prepare as run_preparation

    size = None
    if clips_per_class is not None:
        size = Size(clips_per_class, max(1, clips_per_class // 2), irrelevant=6 * clips_per_class)
    with console.bars("clip") as show:
        report = run_preparation(
            dataset,
            root or Path("data") / dataset,
            workers=workers,
            seed=seed,
            list_file=list_file,
            cache=cache,
            recheck=recheck,
            size=size,
            group_pattern=group_pattern,
            progress=show,
        )
    console.emit(report.table())
