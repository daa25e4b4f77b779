"""Options that several commands share, so that their names and help texts are the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes", metavar="FILE", help="Class names, one a line or id,name (UTF-8; # starts a comment)."
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
    typer.Option("--protocol", metavar="NAME", help="base-to-novel, few-shot, zero-shot or full."),
]
Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Folder of the dataset [default: data/NAME]."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as training.lr=0.01; repeatable."),
]
Provider = Annotated[
    str,
    typer.Option(
        "--provider", metavar="NAME", help="Engine of a bundle: auto, cpu, cuda, tensorrt or openvino."
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where to compute: auto, cpu, cuda or cuda:N.")
]
Threads = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0: the engine's choice.")]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify", metavar="PUBKEY", help="Refuse a bundle that this public key (PEM) did not sign."
    ),
]


def name_lists(text: str) -> str:
    """A help text with `{datasets}` replaced by the registered names."""
    if "{datasets}" not in text:
        return text
    from ga2clip.registry import DATASETS

    return text.replace("{datasets}", ", ".join(DATASETS.names()))


def examples(*lines: str) -> str:
    """The examples at the end of a command's help (a test parses each line)."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
