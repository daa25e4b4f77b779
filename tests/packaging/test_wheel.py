"""The wheel, built once: everything that a user needs is in it, and it runs without the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout gets no build folder and a stale one can't hide a missing file."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", "demo", "runs"
    )
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(folder / "source")], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def shipped(folder: Path, installed_as: str) -> set[str]:
    """The files of a package in the checkout, under their installed names."""
    suffixes = {
        ".py",
        ".toml",
        ".csv",
        ".txt",
        ".json",
        ".safetensors",
        ".md",
        ".html",
        ".css",
        ".js",
        ".typed",
    }
    files = (path for path in folder.rglob("*") if path.suffix in suffixes or path.name == "py.typed")
    return {f"{installed_as}/{path.relative_to(folder).as_posix()}" for path in files}


def test_holds_every_file_of_every_package(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder, name in (
        ("ga2clip", "ga2clip"),
        ("ga2clip_cli", "ga2clip_cli"),
        ("export/ga2clip_export", "ga2clip_export"),
    ):
        assert shipped(ROOT / folder, name) - inside == set()
    assert {f"{name}/py.typed" for name in ("ga2clip", "ga2clip_cli", "ga2clip_export")} <= inside
    assert "ga2clip/assets/tiny/weights.safetensors" in inside
    assert not any(name.startswith(("tests/", "benchmarks/", "scripts/", "export/")) for name in inside)


def test_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 12e6


def run(unpacked: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with the wheel's code and nothing of the checkout (whose editable install stands behind it)."""
    environment = os.environ | {"PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


def test_runs_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    where = "import ga2clip as a, ga2clip_cli as b, ga2clip_export as c; print(a.__file__, b.__file__, c.__file__)"
    assert all(str(unpacked) in path for path in run(unpacked, tmp_path, "-c", where).stdout.split())
    assert "Examples:" in run(unpacked, tmp_path, "-m", "ga2clip_cli", "--help").stdout


def test_weights_and_recipes_are_found_in_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    loads = (
        "from ga2clip.model.load_backbone import load_backbone; from ga2clip.settings import Settings;"
        "from ga2clip.training.configure import configure, recipe_names;"
        "load_backbone(Settings().backbone); [configure(recipe=name) for name in recipe_names()]; print('loaded')"
    )
    assert run(unpacked, tmp_path, "-c", loads).stdout == "loaded\n"
