"""`ga2clip bench`: bundles and clips go in; a table of times, ratios and memory comes out."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson, Threads

EXAMPLES = (
    "ga2clip bench runs/ga2/bundle",
    "ga2clip bench bundles/fp32 bundles/int8 --clip clip.mp4 --torch runs/ga2",
)


def bench(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders that export wrote.")],
    clips: Annotated[
        list[Path] | None, typer.Option("--clip", metavar="FILE", help="Clip to measure on; repeatable.")
    ] = None,
    providers: Annotated[
        list[str] | None, typer.Option("--provider", metavar="NAME", help="Repeatable [default: cpu].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are taken over so many.")] = 5,
    torch_run: Annotated[
        Path | None, typer.Option("--torch", metavar="RUN", help="Measure this run in torch beside them.")
    ] = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Measure bundles, as a table for an issue tracker.

    Decoding, preprocessing, encoding, text and all of it together: medians and ratios, and memory.
    """
    from ga2clip_export.bench import bench as measure

    report = measure(
        bundles,
        clips or (),
        providers=providers or ("cpu",),
        rounds=rounds,
        torch_run=torch_run,
        threads=threads,
    )
    if as_json:
        console.emit_json(report.to_json())
    else:
        console.emit(report.table())
