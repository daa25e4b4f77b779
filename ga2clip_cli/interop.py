"""`ga2clip import`: converts a published checkpoint to a run."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console

EXAMPLES = (
    "ga2clip import last_model.pt --clip-weights ViT-B-16.pt --hard-prompts hard.pt --classes ucf101.txt "
    "--out runs/ga2",
    "ga2clip import best.pth --clip-weights ViT-B-16.pt --classes names.txt --dataset ucf101 --out runs/vifi",
)


def import_published(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Published GA2-CLIP or ViFi-CLIP.")
    ],
    classes: Annotated[Path, typer.Option(metavar="FILE", help="Class names in the checkpoint's order.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run.")],
    clip_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of the CLIP that it was tuned from.  [required]"),
    ] = None,
    clip: Annotated[Path | None, typer.Option(hidden=True)] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The class text that it was tuned with, {} for the name [default: as stored in it].",
        ),
    ] = None,
    hard_prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The frozen hard prompts that it was tuned with.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The dataset that it was tuned on ({datasets}): eval uses it and its recipe's frames.",
        ),
    ] = None,
) -> None:
    """Convert a published checkpoint to a run.

    The run works with eval, export and predict. The given class names must equal those that the checkpoint was tuned
    with: they are compared with the texts stored in it. No code in the file is executed. Missing and unexpected
    weights are an error that lists them.
    """
    if clip is not None and clip_weights is not None:
        raise typer.BadParameter("--clip is the former name of --clip-weights: give one of them")
    if clip is not None:
        console.note("warning: `import --clip` is now --clip-weights, since --clip is a video elsewhere")
    weights = clip_weights or clip
    if weights is None:
        raise typer.BadParameter("missing option '--clip-weights'")
    from ga2clip.interop import import_run
    from ga2clip.training.configure import imported_settings

    settings = imported_settings(dataset)
    console.emit(str(import_run(checkpoint, weights, hard_prompts, classes, out, settings, template)))
