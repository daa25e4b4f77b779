"""A user's own installed package adds a part, a loss term and a dataset, and nothing of ours is edited."""

import json
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


SESSION = """
import json, sys
from ga2clip_cli.__main__ import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["ga2clip", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise

from ga2clip.run import load_run

if sys.argv[1] == "predict":
    run = load_run("run")
    scale = run.state()["parts.feature_scale.scale"]
    found = [sorted(run.state()), run.settings.parts, run.settings.loss.weight("norm"), run.classes]
    print(json.dumps([*found, float((scale - 2).abs().max()) > 0]), file=sys.stderr)
"""


def ga2clip(toy: Path, folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Commands one after the other in one process, which loads torch once."""
    paths = os.pathsep.join([str(toy), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", SESSION, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_training_with_a_part_a_term_and_a_dataset_of_ones_own(toy: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "data")
    dataset = ["--dataset", "toy", "--root", "data"]
    small = ["--protocol", "few-shot", "--shots", "2", "--epochs", "1", "--set", "data.frames=2"]
    own = ["--set", "parts.feature_scale.start=2.0", "--set", "loss.norm=0.5"]
    done = ga2clip(
        toy,
        tmp_path,
        ["prepare", *dataset],
        ["train", *dataset, "--method", "vpt", "--out", "run", *small, *own],
        ["predict", "data/circle/0.mp4", "--model", "run", "--json"],
    )
    assert done.returncode == 0, done.stderr
    assert "0.5 · norm" in done.stderr
    answer = json.loads(done.stdout[done.stdout.index("{") :])
    assert {row["label"] for row in answer["results"][0]["predictions"]} == {"circle", "square"}
    *_, (names, parts, weight, classes, moved) = map(
        json.loads, [line for line in done.stderr.splitlines() if line.startswith("[[")]
    )
    assert [name for name in names if "feature_scale" in name] == ["parts.feature_scale.scale"]
    assert (parts, weight, classes) == ({"feature_scale": {"start": 2.0}}, 0.5, ["circle", "square"])
    assert moved


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
    shown = ga2clip(toy, tmp_path, ["train", "--dataset", "stickfigures", "--set", setting, "--dry-run"])
    assert shown.returncode == 1
    assert said in shown.stderr
