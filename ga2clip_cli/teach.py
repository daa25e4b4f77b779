"""`ga2clip teach`: adds or improves classes of a bundle from example clips, without training and torch."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip.errors import UserError
from ga2clip.text import printable
from ga2clip_cli import console
from ga2clip_cli.options import Provider, Threads, Verify, typed

EXAMPLES = (
    "ga2clip teach runs/ga2/bundle my-classes/ --out taught",
    "ga2clip teach runs/ga2/bundle examples.csv --out taught",
    "ga2clip teach runs/ga2/bundle --class juggling a.mp4 b.mp4 --out taught",
    'ga2clip teach taught --class "none of these" empty-room.mp4 --out taught-2',
    "ga2clip teach taught --not-class juggling playing-catch.mp4 --out taught-2",
    "ga2clip teach taught --forget juggling --out as-before",
)


def teach(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, taught before or not.")],
    out: Annotated[
        Path, typer.Option(metavar="BUNDLE2", help="The folder of the new bundle; it must not exist.")
    ],
    examples: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="EXAMPLES...",
            help="Folders of class folders, or lists with lines path,label. With --class or --not-class: clips.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="The class of all clips, old or new; or 'none of these'."
        ),
    ] = None,
    not_class: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The clips look like this class but are not of it."),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Undo what was taught of a class (not its training); repeatable.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Videos decoded at once.")] = 1,
    provider: Provider = "auto",
    threads: Threads = 0,
    verify: Verify = None,
    sign_with: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign the new bundle with this Ed25519 private key (PEM)."),
    ] = None,
) -> None:
    """Add or improve classes of a bundle from a few example clips.

    Takes as long as encoding the clips; there is nothing to train and no torch. Clips of "none of these" improve
    --reject. The given bundle stays as it is; the new one can be taught again, and forget what it was taught.
    """
    if label is not None and not_class is not None:
        raise typer.BadParameter("--class and --not-class exclude each other; teach twice")
    if not examples and (label is not None or not_class is not None):
        raise typer.BadParameter("--class and --not-class need clips")
    if not examples and not forget:
        raise UserError("there are no examples", "give class folders, a list, or --class NAME CLIP...")
    if not examples and typed(context, "--workers"):
        raise typer.BadParameter("--workers needs clips: --forget decodes none")
    from ga2clip.data.lineage import warn_of_test_clips
    from ga2clip.runtime import open_bundle
    from ga2clip.runtime.example_files import find_examples
    from ga2clip.runtime.teach import summary
    from ga2clip.runtime.teach import teach as teach_bundle

    classes = open_bundle(bundle).card.classes
    name = not_class if label is None else label
    shown = find_examples(examples or [], classes, label=name, apart=not_class is not None)
    warn_of_test_clips(example.path for example in shown)
    teach_bundle(
        bundle,
        shown,
        out,
        forget=forget or [],
        provider=provider,
        threads=threads,
        workers=workers,
        signed_by=verify,
        sign_with=sign_with,
    )
    console.note(printable(summary(out)))
