"""`ga2clip bench`: times, ratios and memory of bundles."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson, Threads

EXAMPLES = (
    "ga2clip bench runs/ga2/bundle",
    "ga2clip bench bundles/fp32 bundles/int8 clip.mp4 --torch runs/ga2",
)


def bench(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE|CLIP...", help="Folders that export wrote; videos to measure on."),
    ],
    providers: Annotated[
        list[str] | None,
        typer.Option("--provider", metavar="NAME", help="{providers}; repeatable [default: cpu]."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds, of which medians are shown.")] = 5,
    torch_run: Annotated[
        Path | None,
        typer.Option(
            "--torch",
            metavar="RUN",
            help="Also measure this run in torch [default: the run whose folder holds the first bundle].",
        ),
    ] = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the speed and memory of bundles.

    Prints a Markdown table with medians and ratios for decoding, preprocessing, encoding of frames and texts, and the
    whole process. Without a clip, a synthetic one is used.
    """
    from ga2clip.evaluation.open_predictor import nothing_there
    from ga2clip_export.bench import bench as measure

    bundles = [path for path in paths if path.is_dir()]
    if not bundles:
        raise nothing_there(paths[0])
    report = measure(
        bundles,
        [path for path in paths if not path.is_dir()],
        providers=providers or ("cpu",),
        rounds=rounds,
        run=torch_run,
        threads=threads,
    )
    if as_json:
        console.emit_json(report.to_json())
    else:
        console.emit(report.table())
