"""A user's own installed package adds a part, a loss term and a dataset, and nothing of ours is edited."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ga2clip.video import write_video
from tests.extension.toy import write_toy_package


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds the package and its metadata, as pip would lay them."""
    return write_toy_package(tmp_path_factory.mktemp("site"))


def write_clips(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("circle", "square"):
        for number in range(4):
            write_video(
                root / name / f"{number}.mp4", rng.integers(0, 255, (6, 48, 48, 3), dtype=np.uint8), 10
            )


def ga2clip(toy: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(toy), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "ga2clip_cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_training_with_a_part_a_term_and_a_dataset_of_ones_own(toy: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "data")
    prepared = ga2clip(toy, tmp_path, "prepare", "--dataset", "toy", "--root", "data")
    assert prepared.returncode == 0, prepared.stderr
    trained = ga2clip(
        toy,
        tmp_path,
        *("train", "--dataset", "toy", "--root", "data", "--method", "vpt", "--out", "run", "--epochs", "2"),
        *(
            "--protocol",
            "few-shot",
            "--shots",
            "2",
            "--set",
            "data.frames=2",
            "--set",
            "backbone.pretrained=builtin",
        ),
        *("--set", "parts.feature_scale.start=2.0", "--set", "loss.norm=0.5"),
    )
    assert trained.returncode == 0, trained.stderr
    assert "0.5 · norm" in trained.stderr
    answer = ga2clip(
        toy,
        tmp_path,
        *("predict", "data/circle/0.mp4", "--model", "run", "--json"),
    )
    assert answer.returncode == 0, answer.stderr
    check = (
        "from ga2clip.run import load_run; run = load_run('run'); state = run.state();"
        "print(sorted(n for n in state if 'feature_scale' in n), run.settings.parts, run.settings.loss.weight('norm'),"
        " run.classes, float((state['parts.feature_scale.scale'] - 2).abs().max()) > 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(toy)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.stdout.strip() == (
        "['parts.feature_scale.scale'] {'feature_scale': {'start': 2.0}} 0.5 ('circle', 'square') True"
    ), found.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("parts.feature_scale.begin=1", "unknown setting 'begin'\nhint: valid: start"),
        ("loss.nrom=1", "did you mean 'norm'"),
    ],
)
def test_a_mistyped_name_of_ones_own_gets_the_nearest(
    toy: Path, tmp_path: Path, setting: str, said: str
) -> None:
    shown = ga2clip(toy, tmp_path, "train", "--dataset", "stickfigures", "--set", setting, "--dry-run")
    assert shown.returncode == 1
    assert said in shown.stderr
