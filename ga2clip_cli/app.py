"""The command `ga2clip`: every command is declared here by importing its file; none of them loads torch yet."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ga2clip_cli import (
    bench,
    cache,
    console,
    evaluate,
    export,
    info,
    interop,
    methods,
    predict,
    prepare,
    reproduce,
    train,
)
from ga2clip_cli.options import examples, name_lists


class _Commands(TyperGroup):
    """Commands in the order in which a person needs them; Ctrl-C is answered the same in each."""

    def invoke(self, ctx: Any) -> Any:
        # Typer would turn the interrupt into "Aborted!" or nothing, depending on its version.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            sys.exit(console.report(error, debug=False))


class _Command(TyperCommand):
    """A command whose help lists names from the registries, which are read when help is asked for, not at start-up."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if text := getattr(parameter, "help", None):
                parameter.help = name_lists(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="ga2clip",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: half the start-up time, and the same on every terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        console.emit(f"ga2clip {version('ga2clip')}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "ga2clip prepare --dataset stickfigures",
        "ga2clip train --dataset stickfigures --shots 16 --out runs/ga2",
        "ga2clip eval runs/ga2",
        "ga2clip export runs/ga2",
        "ga2clip predict clip.mp4 --classes labels.txt",
    )
)
def ga2clip(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop."),
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Tracebacks and debug messages; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Adapt CLIP to video action recognition with a handful of clips per class, and ship it as ONNX.

    Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed (or some files of a
    batch did), 2 wrong usage, 130 interrupted.
    """


for _name, _module, _function in (
    ("prepare", prepare, prepare.prepare),
    ("train", train, train.train),
    ("eval", evaluate, evaluate.evaluate),
    ("export", export, export.export),
    ("predict", predict, predict.predict),
    ("import", interop, interop.import_published),
    ("methods", methods, methods.methods),
    ("info", info, info.info),
    ("bench", bench, bench.bench),
    ("cache", cache, cache.cache),
    ("reproduce", reproduce, reproduce.reproduce),
):
    app.command(_name, cls=_Command, epilog=examples(*_module.EXAMPLES))(_function)
