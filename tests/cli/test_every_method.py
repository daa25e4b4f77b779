"""Every method, from training to a prediction without torch, on the built-in data."""

import json
from pathlib import Path

import pytest

from ga2clip.model.methods import METHODS

TORCH = ("torch", "torchvision", "open_clip", "safetensors", "onnx", "matplotlib")
SMALL = ("training.batch_size=10", "data.frames=2", "anchors.per_step=1")


pytestmark = pytest.mark.usefixtures("traced_once")
ALWAYS = "linear-probe"
"""tests/cli/test_path.py walks with the recommended parts; updates and parts have fast tests of their own."""


@pytest.mark.parametrize(
    "name",
    [ALWAYS, *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != ALWAYS)],
)
def test_trains_evaluates_exports_and_predicts(
    name: str, stickfigures: tuple[Path, str], invoke, process, empty: Path
) -> None:
    data = stickfigures[0]
    root = ["--root", str(data / "data/stickfigures")]
    train = ["train", "--method", name, *root, "--shots", "1", "--epochs", "1", "--out", "run"]
    code, _, err = invoke(empty, [*train, *(word for size in SMALL for word in ("--set", size))])
    assert code == 0, err
    report = json.loads(invoke(empty, ["eval", "run", "--json"]).out)
    assert report["method"] == name
    assert 0 <= report["harmonic_mean"] <= 1
    code, _, err = invoke(empty, ["export", "run"])
    assert code == 0, err
    card = json.loads((empty / "run/bundle/bundle.json").read_text(encoding="utf-8"))
    assert card["reject"]["rejected"] is not None  # fitted on anchors, also where the method trains without
    assert card["calibration"]["clips"] == 20
    assert card["calibration"]["tuned"]["negative_offset"] is not None
    assert card["calibration"]["new"]["negative_offset"] is not None
    clip = str(next((data / "data/stickfigures").glob("videos/*/test_*.mp4")))
    (empty / "labels.txt").write_text("kicking a ball\nplaying a violin\nrepairing a roof\n")
    words = ["predict", clip, "--classes", "labels.txt", "--json", "--model"]
    by_onnx = process(*words, "run/bundle", without=TORCH)
    assert by_onnx.code == 0, by_onnx.err
    by_torch = invoke(empty, [*words, "run"])
    ours, theirs = (
        {row["label"]: row["probability"] for row in json.loads(answer.out)["results"][0]["predictions"]}
        for answer in (by_onnx, by_torch)
    )
    assert ours == pytest.approx(theirs, abs=1e-4)
