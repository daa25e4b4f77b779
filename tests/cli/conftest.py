"""The command line as a user meets it: an empty working folder, an exit code, stdout and stderr."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ga2clip.video import write_video
from ga2clip_cli.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@contextmanager
def _restored() -> Iterator[None]:
    """What `main` changes in a process that is its own: loggers, streams, arguments, working folder."""
    loggers = [logging.getLogger(name) for name in (None, "ga2clip", "ga2clip_export")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    streams, argv, folder = (sys.stdout, sys.stderr), sys.argv, Path.cwd()
    try:
        yield
    finally:
        os.chdir(folder)
        sys.argv = argv
        sys.stdout, sys.stderr = streams
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture(scope="session")
def invoke() -> Callable[[Path, list[str]], Outcome]:
    """Runs a command line in a folder inside this process: importing torch once is enough for all tests."""

    def run(folder: Path, words: list[str]) -> Outcome:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        code = 0
        with _restored():
            os.chdir(folder)
            sys.argv, sys.stdout, sys.stderr = ["ga2clip", *words], out, err
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        assert "Traceback" not in texts[1], texts[1]
        return Outcome(code, *texts)

    return run


@pytest.fixture(scope="session")
def stickfigures(tmp_path_factory: pytest.TempPathFactory, invoke: Run) -> tuple[Path, str]:
    """A folder in which the built-in data was prepared, small, and what was printed; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared")
    words = ["prepare", "--dataset", "stickfigures", "--clips-per-class", "1", "--workers", "1"]
    code, out, err = invoke(folder, words)
    assert code == 0, err
    return folder, out


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with nothing in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def clip(empty: Path) -> Path:
    """A second of noise as a video file."""
    path = empty / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)
    write_video(path, frames, fps=6)
    return path


@pytest.fixture
def ga2clip(invoke: Callable[[Path, list[str]], Outcome], empty: Path) -> Run:
    """Runs a command line in the empty folder."""
    return lambda *words: invoke(empty, [str(word) for word in words])


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
