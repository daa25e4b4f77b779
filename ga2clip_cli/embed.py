"""`ga2clip embed`: features of videos, for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ga2clip.choices import STILL
from ga2clip.text import counted, printable
from ga2clip_cli import console
from ga2clip_cli.options import Device, Provider, Still, Threads, Verify

if TYPE_CHECKING:
    from ga2clip.runtime.model import Encoded

EXAMPLES = (
    "ga2clip embed clips/ --model runs/ga2/bundle --out features.npz",
    "ga2clip embed a.mp4 b.mp4 --frames --out features.npz",
    "ga2clip embed clips/ --out features.parquet",
)


def embed(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Videos; folders are searched.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The .npz or .parquet file to write; it must not exist.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME",
            help="A bundle, a run, or a backbone [default: the newest bundle here, else tiny].",
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Also write features of the sampled frames, with their times.")
    ] = False,
    still: Still = None,
    workers: Annotated[int, typer.Option(min=1, help="Videos decoded at once.")] = 1,
    device: Device = "auto",
    provider: Provider = "auto",
    threads: Threads = 0,
    verify: Verify = None,
) -> None:
    """Write the features of videos to an .npz or a Parquet file.

    The ending of the name says which; Parquet needs the extra `parquet`.
    Memory does not grow with the number of videos. If it is stopped, the same command continues. In Python,
    ga2clip.read_features(FILE) reads the file; numpy.load and pandas.read_parquet do, too.
    """
    if still is not None and not frames:
        raise typer.BadParameter("--still needs --frames; without it all frames are encoded")
    from ga2clip.evaluation.open_predictor import open_predictor
    from ga2clip.predictions import Failure
    from ga2clip.runtime.embed import embed as write_features
    from ga2clip.runtime.results import expand

    paths = expand(files)
    # A backbone has no classes of its own; features need none.
    with (
        open_predictor(
            model,
            classes=None if model is None or Path(model).exists() else ["video"],
            provider=provider,
            device=device,
            threads=threads,
            signed_by=verify,
        ) as predictor,
        console.bars("video") as show,
    ):
        console.note(printable(f"model: {predictor.name} · provider: {predictor.provider}"))
        seen = reused = 0

        def count(result: "Encoded | Failure") -> None:
            nonlocal seen, reused
            seen += 1
            reused += 0 if isinstance(result, Failure) else result.reused
            show("embed", seen, len(paths))

        failures: list[Failure] = write_features(
            predictor, paths, out, frames=frames, still=still, workers=workers, on_result=count
        )
    for failure in failures:
        console.note(f"error: {printable(failure.error)}")
    if reused:
        console.note(
            f"{counted(reused, 'frame')} unchanged and not encoded (--still {STILL if still is None else still:g}; "
            "0 encodes all)"
        )
    console.note(
        printable(f"{counted(len(paths) - len(failures), 'video')} embedded, {len(failures)} failed: {out}")
    )
    if failures:
        raise typer.Exit(1)
