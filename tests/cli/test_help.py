"""Help ends in examples, and every command line that is written down anywhere can be typed."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer.main

from ga2clip import settings
from ga2clip.choices import DEVICES, PROVIDERS, TABLE_SUFFIXES, ExportPrecision
from ga2clip.model.methods import METHODS
from ga2clip.registry import DATASETS
from ga2clip_cli.app import app
from ga2clip_cli.options import choices, name_lists

ROOT = Path(__file__).resolve().parents[2]
GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]


def documented() -> Iterator[tuple[str, str]]:
    """(where, line) of each `ga2clip …` in help texts and in code blocks of README and docs."""
    for name in COMMANDS:
        help_text = GROUP.commands[name].epilog  # type: ignore[attr-defined]
        yield from ((f"help of {name}", line.strip()) for line in help_text.splitlines()[2:])
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                command = re.sub(r"\s+#.*|\s+[|>].*", "", line.strip().removeprefix("$ "))
                if command.startswith("ga2clip "):
                    yield page.name, command


LINES = sorted(set(documented()))


@pytest.mark.parametrize(("where", "line"), LINES, ids=[line for _, line in LINES])
def test_documented_lines_parse(where: str, line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0].startswith("-"):
        return
    command = GROUP.commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:])


REFUSING = ("predict", "embed", "teach", "export")
"""Commands that refuse options which exclude each other or have no effect, before they look for any file."""


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in dict.fromkeys(line for _, line in LINES)
        if line.split()[1] in REFUSING and not re.search(r"://| - ", line)  # neither network nor stdin
    ],
)
def test_documented_options_go_together(ga2clip, line: str) -> None:
    assert ga2clip(*shlex.split(line)[1:]).code == 1  # not 2: that the files are not here is found later


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_in_examples(ga2clip, name: str) -> None:
    code, out, _ = ga2clip(name, "--help")
    assert code == 0
    *_, head, examples = out.rstrip().rpartition("Examples:\n")
    assert head
    assert all(line.strip().startswith(f"ga2clip {name}") for line in examples.splitlines())


def published() -> Iterable[str]:
    from ga2clip.experiments.published import FEW_SHOT, HALVES, SIZES

    assert set(FEW_SHOT) <= set(HALVES) == set(SIZES)
    return HALVES


CHOICES: dict[tuple[str, str], Callable[[], Iterable[str]]] = {
    **{(name, "protocol"): lambda: get_args(settings.Protocol) for name in ("train", "eval")},
    ("train", "anchor_loss"): lambda: get_args(settings.AnchorLoss),
    ("train", "tune"): lambda: get_args(settings.Tune),
    ("train", "preset"): lambda: get_args(settings.Preset),
    ("train", "method"): lambda: METHODS,
    **{(name, "dataset"): DATASETS.names for name in ("train", "eval", "prepare", "import")},
    ("reproduce", "dataset"): published,
    ("export", "precision"): lambda: get_args(ExportPrecision),
    ("predict", "provider"): lambda: PROVIDERS,
    ("bench", "providers"): lambda: PROVIDERS,
    **{(name, "device"): lambda: DEVICES for name in ("train", "eval", "predict", "reproduce")},
    **{(name, "form"): lambda: TABLE_SUFFIXES for name in ("compare", "sweep", "reproduce")},
}


@pytest.mark.parametrize(("command", "option"), CHOICES)
def test_help_names_what_can_be_chosen(command: str, option: str) -> None:
    (parameter,) = (p for p in GROUP.commands[command].params if p.name == option)  # type: ignore[attr-defined]
    names = list(CHOICES[command, option]())
    assert f"{', '.join(names[:-1])} or {names[-1]}" in name_lists(parameter.help)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_placeholder_is_left_in_a_help_text(ga2clip, name: str) -> None:
    _, out, _ = ga2clip(name, "--help")
    assert [kind for kind in choices() if f"{{{kind}}}" in out] == []
    assert re.findall(r"{[a-z_]+}", out) == []


def test_main_help_names_every_command(ga2clip) -> None:
    code, out, _ = ga2clip("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)
    assert "..." not in out.partition("Commands:")[2].partition("Examples:")[0], "a summary is cut off"


def test_version(ga2clip) -> None:
    code, out, _ = ga2clip("--version")
    assert code == 0
    assert re.fullmatch(r"ga2clip \d+\.\d+\.\d+\S*\n", out)


def test_help_needs_neither_torch_nor_onnxruntime(process) -> None:
    heavy = ("torch", "open_clip", "onnx", "onnxruntime", "numpy", "av", "cv2", "PIL")
    assert process("--help", without=heavy).code == 0
    for name in ("predict", "train", "export", "reproduce"):
        assert process(name, "--help", without=heavy).code == 0
