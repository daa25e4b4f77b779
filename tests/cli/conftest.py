"""The command line as a user meets it: an empty working folder, an exit code, stdout and stderr."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ga2clip_cli.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with nothing in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def ga2clip(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a command line inside this process (importing torch once is enough)."""
    loggers = [logging.getLogger(name) for name in ("ga2clip", "ga2clip_export")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]

    def run(*words: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ga2clip", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(code, out, err)

    yield run
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture
def process(empty: Path) -> Run:
    """Runs a command line in a process of its own; `without` names packages that can't be imported there."""

    def run(*words: str | Path, without: tuple[str, ...] = ()) -> Outcome:
        blocked = "".join(f"sys.modules[{name!r}] = None; " for name in without)
        script = f"import sys; {blocked}from ga2clip_cli.__main__ import main; main()"
        ended = subprocess.run(
            [sys.executable, "-c", script, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def left_behind(empty: Path) -> Callable[[], list[str]]:
    """Lists everything in the working folder, to see that a failed command wrote nothing."""
    return lambda: sorted(str(path.relative_to(empty)) for path in empty.rglob("*"))
