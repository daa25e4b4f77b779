"""Options that several commands share, so that their names and help texts are the same everywhere."""

import re
from pathlib import Path
from typing import Annotated, get_args

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="FILE|A,B",
        help="Names with commas, or a file: one a line or id,name (UTF-8; # starts a comment), or names "
        "with descriptions, such as JSON {name: [sentence, …]}.",
    ),
]
Descriptions = Annotated[
    str | None,
    typer.Option(
        "--descriptions",
        metavar="FILE|builtin",
        help='Sentences about classes: JSON {"name": ["sentence"]}, TOML, or CSV name,description.',
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        metavar="KIND|FILE",
        help="Class names: readable, raw (the dataset's labels), or a file with a name for each class in "
        "the dataset's order, or with lines raw,name.",
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", metavar="NAME", help="{protocols}."),
]
Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Folder of the dataset [default: data/NAME]."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as training.lr=0.01; repeatable."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=1,
        metavar="PIXELS",
        help="Frames of another size than the backbone was trained with.",
    ),
]
TableForm = Annotated[str, typer.Option("--format", metavar="FORM", help="Of the table: {forms}.")]
NewestRun = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]",
        help="A folder that training or import wrote [default: the newest finished run here].",
    ),
]
Provider = Annotated[
    str,
    typer.Option("--provider", metavar="NAME", help="Engine of a bundle: {providers}."),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where to compute: {devices}.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0: the engine's choice.")]
Still = Annotated[
    float | None,
    typer.Option(
        "--still",
        min=0,
        help="Frames in a row whose pixels (of 255) moved less than this, or than less in low contrast, are encoded "
        "once (with 1, windows of 8 frames mostly stay within 0.01); 0: encode all [default: 1; 0 for a model whose "
        "frames see their neighbours].",
    ),
]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify", metavar="PUBKEY", help="Refuse a bundle that this public key (PEM) did not sign."
    ),
]


def typed(context: typer.Context, option: str) -> bool:
    """Whether an option such as `--min-length` stands on the command line, be it with its default."""
    source = context.get_parameter_source(option.removeprefix("--").replace("-", "_"))
    return source is not None and source.name != "DEFAULT"


def sets_seed(overrides: list[str] | None) -> bool:
    """Whether --set gives the seed, beside another option that does."""
    return any(pair.partition("=")[0].strip() == "training.seed" for pair in overrides or ())


def newest_run() -> Path:
    """The run that a command takes where none is named: the newest finished one in the working folder; says which."""
    from ga2clip.run import newest_run as newest
    from ga2clip_cli import console

    run = newest(Path())
    console.note(f"run: {run}")
    return run


def choices() -> dict[str, tuple[str, ...]]:
    """The names that `{…}` stands for in help texts, from where they are decided; none of them loads torch."""
    from ga2clip import settings
    from ga2clip.choices import DEVICES, PROVIDERS, TABLE_SUFFIXES, ExportPrecision
    from ga2clip.experiments.published import HALVES
    from ga2clip.model.methods import METHODS
    from ga2clip.registry import DATASETS, LOGGERS

    return {
        "anchor_losses": get_args(settings.AnchorLoss),
        "datasets": DATASETS.names(),
        "devices": DEVICES,
        "forms": tuple(TABLE_SUFFIXES),
        "loggers": LOGGERS.names(),
        "methods": tuple(METHODS),
        "precisions": get_args(ExportPrecision),
        "presets": get_args(settings.Preset),
        "protocols": get_args(settings.Protocol),
        "providers": PROVIDERS,
        "published": tuple(HALVES),
        "tunes": get_args(settings.Tune),
    }


def name_lists(text: str) -> str:
    """A help text with each `{kind}` of `choices` replaced by the names."""
    if not re.search(r"{[a-z_]+}", text):
        return text
    for kind, names in choices().items():
        text = text.replace(f"{{{kind}}}", f"{', '.join(names[:-1])} or {names[-1]}")
    return text


def examples(*lines: str) -> str:
    """The examples at the end of a command's help (a test parses each line)."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
