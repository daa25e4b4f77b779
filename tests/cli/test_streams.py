"""stdout holds results alone, stderr plain text; closed, full and broken streams end without a traceback."""

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip_cli import console

linux = pytest.mark.skipif(sys.platform != "linux", reason="descriptors as Linux has them")
ESCAPES = "red \x1b[31m\x9b1m\u202e\nline"
SHOWN = r"red \x1b[31m\x9b1m\u202e\nline"

# A command whose libraries are noisy: they print in Python and in C, and warn.
NOISY = """
import os, sys, warnings
import ga2clip.descriptions as descriptions
def read(text):
    os.write(1, b"a C library\\n")
    warnings.warn("a library warns", UserWarning)
    labels_read = __import__("ga2clip_cli.console").console
    labels_read.emit("result")
    raise descriptions.UserError("bad")
descriptions.given_classes = read
sys.argv = ["ga2clip", "predict", "a.mp4", "--classes", "x"]
from ga2clip_cli.__main__ import main
main()
"""


def shell(words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A shell line in which $GA2CLIP is the command."""
    line = words.replace("$GA2CLIP", f"{sys.executable} -m ga2clip_cli")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


@linux
@pytest.mark.parametrize("filters", ["default", "error"])
def test_stdout_holds_results_alone(empty: Path, filters: str) -> None:
    command = [sys.executable, "-W", filters, "-c", NOISY]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "result\n")
    assert ended.stderr == "a C library\nerror: bad\n"


@linux
@pytest.mark.parametrize("words", ["--version", "--help"])
def test_a_full_disk_behind_stdout(empty: Path, words: str) -> None:
    ended = shell(f"$GA2CLIP {words} > /dev/full")
    assert ended.returncode == 1
    error, hint = ended.stderr.splitlines()
    assert error.startswith("error: cannot write")
    assert error.endswith("No space left on device")
    assert hint.startswith("hint: free some space")


@linux
@pytest.mark.parametrize("words", ["--version", "--help"])
def test_a_reader_that_has_seen_enough(empty: Path, words: str) -> None:
    ended = shell(f"exec 3> >(exec true); sleep 0.3; $GA2CLIP {words} >&3")
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


@linux
def test_closed_streams(empty: Path) -> None:
    ended = shell("$GA2CLIP --version >&-")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: stdout is closed")
    ended = shell("$GA2CLIP info nowhere 2>&-")
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
    ended = shell("$GA2CLIP --version <&- 2>&-")
    assert ended.returncode == 0
    assert ended.stdout.startswith("ga2clip ")


@linux
def test_a_file_gets_nothing_that_was_meant_for_a_closed_stream(empty: Path) -> None:
    script = (
        "from ga2clip_cli import console; console.keep_stdout_clean()\n"
        "import os, pathlib; file = open('out.txt', 'w'); file.write('mine'); file.flush()\n"
        "os.write(1, b'library'); os.write(2, b'message'); console.note('note')"
    )
    (empty / "script.py").write_text(script)
    ended = shell(f"{sys.executable} script.py >&- 2>&-", cwd=empty)
    assert ended.returncode == 0
    assert (empty / "out.txt").read_text() == "mine"


def test_messages_and_tables_steer_no_terminal(
    ga2clip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ga2clip import descriptions

    def fail(text: str) -> dict[str, tuple[str, ...]]:
        console.emit(console.table(("name", "n"), [(ESCAPES, "1")]))
        console.note(f"note {ESCAPES}")
        logging.getLogger("ga2clip.test").warning("log %s", ESCAPES)
        raise UserError(f"bad {ESCAPES}", f"valid: {ESCAPES}")

    monkeypatch.setattr(descriptions, "given_classes", fail)
    code, out, err = ga2clip("predict", "clip.mp4", "--classes", "labels.txt")
    assert code == 1
    assert out == f"name{' ' * (len(SHOWN) - 4)}  n\n{SHOWN}  1\n"
    lines = SHOWN.replace(r"\n", "\n")  # a message of several lines keeps them, an error is one
    assert err == f"note {lines}\nwarning: log {lines}\nerror: bad {SHOWN}\nhint: valid: {lines}\n"


def test_json_is_exact_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"label": f"{ESCAPES} 跑步 🙂\U000e0001\udcff"}
    console.emit_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert all(line.isprintable() for line in out.splitlines())
    assert "跑步 🙂" in out


def test_what_a_run_calls_itself_steers_no_terminal(
    ga2clip, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ga2clip import run
    from ga2clip.settings import Settings

    (empty / "run").mkdir()
    (empty / "run" / "settings.toml").touch()
    meta = {"backbone": ESCAPES, "licence": "MIT"}
    monkeypatch.setattr(run, "load_run", lambda path: run.Run(Path(path), Settings(), (ESCAPES, "b"), meta))
    code, out, _ = ga2clip("info", "run")
    assert code == 0
    assert len(out.splitlines()) == 4
    assert f"on {SHOWN} (licence" in out
    assert f"classes   2: {SHOWN}, b\n" in out
    code, out, _ = ga2clip("info", "run", "--json")
    assert json.loads(out)["backbone"] == ESCAPES


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("10000 requested and 8176 written"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("database or disk is full"),
    ],
)
def test_a_full_disk_is_no_bug_of_ours(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    for raised in (error, _caused_by(error)):
        assert console.report(raised, debug=False) == 1
        said = capsys.readouterr().err
        assert "No space left on device" in said
        assert "hint: free some space" in said
        assert "bug report" not in said


def _caused_by(error: Exception) -> Exception:
    try:
        try:
            raise error
        except Exception:
            raise ValueError("could not save") from None
    except ValueError as outer:
        return outer


def test_warnings_of_libraries_are_for_debugging(ga2clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from ga2clip import descriptions

    def fail(text: str) -> dict[str, tuple[str, ...]]:
        warnings.warn("a library warns", UserWarning, stacklevel=1)
        raise UserError("bad")

    monkeypatch.setattr(descriptions, "given_classes", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ga2clip("predict", "clip.mp4", "--classes", "labels.txt").err == "error: bad\n"
