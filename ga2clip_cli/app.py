"""The command `ga2clip`: imports the file of the command that is called, without loading torch."""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ga2clip_cli import console
from ga2clip_cli.options import examples, name_lists

_WHERE = {
    "prepare": "prepare:prepare",
    "train": "train:train",
    "eval": "evaluate:evaluate",
    "compare": "compare:compare",
    "report": "report:report",
    "export": "export:export",
    "predict": "predict:predict",
    "teach": "teach:teach",
    "embed": "embed:embed",
    "import": "interop:import_published",
    "methods": "methods:methods",
    "backbones": "backbones:backbones",
    "settings": "settings:settings",
    "info": "info:info",
    "bench": "bench:bench",
    "cache": "cache:cache",
    "sweep": "sweep:sweep",
    "reproduce": "reproduce:reproduce",
}
"""File and function of each command, in the order of a typical workflow."""


class _Command(TyperCommand):
    """A command whose help lists names of the registries, which are only read when the help is shown.

    headings: headings in the help, with the parameters below them; the others are `Options`.
    """

    headings: Mapping[str, tuple[str, ...]] = {}

    def invoke(self, ctx: Any) -> Any:
        console.loaded()
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if text := getattr(parameter, "help", None):
                parameter.help = name_lists(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options under the headings that their command declares; Typer itself has such panels with rich alone."""
        headings = {name: head for head, names in self.headings.items() for name in names}
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in self.get_params(ctx):
            plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record := parameter.get_help_record(ctx):
                panels.setdefault(headings.get(parameter.name, plain), []).append(record)
        for head, records in panels.items():
            if records:
                with formatter.section(head):
                    formatter.write_dl(records)


class _OnDemand(Mapping[str, _Command]):
    """All commands by name. Each is made when it is asked for: reading the options of all takes as long as some run."""

    def __init__(self) -> None:
        self._made: dict[str, _Command] = {}

    def __getitem__(self, name: str) -> _Command:
        if name not in self._made:
            self._made[name] = _command(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


def _command(name: str) -> _Command:
    """The command of this name, from the file where it stands. Raises KeyError where there is none."""
    file, _, function = _WHERE[name].partition(":")
    module = import_module(f"ga2clip_cli.{file}")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(name, cls=_Command, epilog=examples(*module.EXAMPLES))(getattr(module, function))
    command: Any = typer.main.get_command(alone)
    command.headings = getattr(module, "PANELS", {})
    return command


class _Commands(TyperGroup):
    """The commands; handles Ctrl-C for all of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _OnDemand()})

    def invoke(self, ctx: Any) -> Any:
        # Typer prints "Aborted!" or nothing for an interrupt, depending on its version.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            sys.exit(console.report(error, debug=False))


app = typer.Typer(
    name="ga2clip",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
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
        "ga2clip report runs/ga2",
        "ga2clip export runs/ga2",
        "ga2clip predict clip.mp4 --classes labels.txt",
        "ga2clip sweep season.toml",
        "ga2clip compare runs/season",
    )
)
def ga2clip(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop."),
    ] = False,
    _debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks and debug messages; allowed anywhere on the line."),
    ] = False,
) -> None:
    """Adapt CLIP to video action recognition with a few clips per class, and export it to ONNX.

    Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed (or some files of a
    batch failed), 2 wrong usage, 130 interrupted.
    """
