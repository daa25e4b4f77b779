"""docs/api.md: its examples run as they stand, in order, and it names the whole public surface."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ga2clip
from ga2clip.run import write_run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
TRAINING = [block for block in BLOCKS if "ga2clip.train(" in block]


@pytest.fixture
def folder(
    model: object, bundle: Path, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder that the page speaks of, as the working folder."""
    write_run(tmp_path / "runs/ga2", model.settings, model)  # type: ignore[attr-defined]
    shutil.copytree(bundle, tmp_path / "runs/ga2/bundle")
    shutil.copy(clip_path, tmp_path / "clip.mp4")
    (tmp_path / "notes.txt").write_text("no video")
    monkeypatch.setenv("GA2CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(blocks: list[str]) -> None:
    names: dict[str, object] = {"ga2clip": ga2clip}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_the_examples_of_predicting(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks([block for block in BLOCKS if block not in TRAINING])
    shown = capsys.readouterr().out
    assert "not read: " in shown
    assert "torch on cpu" in shown


@pytest.mark.slow
def test_the_example_of_training(folder: Path) -> None:
    prepare = ("prepare", "--dataset", "stickfigures", "--clips-per-class", "1", "--workers", "1")
    subprocess.run([sys.executable, "-m", "ga2clip_cli", *prepare], check=True, capture_output=True)
    assert len(TRAINING) == 1
    run_blocks(TRAINING)
    assert (folder / "runs/small/bundle/bundle.json").is_file()


def test_every_public_name_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in ga2clip.__all__ if f"`{name}`" not in text] == []
