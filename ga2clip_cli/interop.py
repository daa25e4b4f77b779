"""`ga2clip import`: a checkpoint that others published becomes a run."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console

EXAMPLES = (
    "ga2clip import last_model.pt --clip ViT-B-16.pt --hard-prompts hard.pt --classes ucf101.txt --out runs/ga2",
    "ga2clip import best.pth --clip ViT-B-16.pt --classes names.txt --dataset ucf101 --out runs/vifi",
)


def import_published(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Published GA2-CLIP or ViFi-CLIP.")
    ],
    clip: Annotated[Path, typer.Option(metavar="FILE", help="The CLIP weights that it was tuned from.")],
    classes: Annotated[Path, typer.Option(metavar="FILE", help="Class names in the checkpoint's order.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run.")],
    template: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The class text it was tuned with, {} for the name [default: the one inside].",
        ),
    ] = None,
    hard_prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The frozen hard prompts that belong to it.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What it was tuned on ({datasets}): eval tests there, with that recipe's frames.",
        ),
    ] = None,
) -> None:
    """Turn a published checkpoint into a run.

    eval, export and predict take it like any other, with the class names and the class text that it was tuned
    with: the names given are compared with the texts inside, and refused where they differ. Nothing in the file
    is executed. A missing or unexpected weight is listed, never ignored.
    """
    from ga2clip.interop import import_run
    from ga2clip.training.configure import imported_settings

    settings = imported_settings(dataset)
    console.emit(str(import_run(checkpoint, clip, hard_prompts, classes, out, settings, template)))
