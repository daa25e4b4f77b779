"""Class descriptions on the command line, from the file to an answer without torch."""

import json
from pathlib import Path

import pytest

from tests.small_training import write_dataset

pytestmark = pytest.mark.usefixtures("traced_once")
TORCH = ("torch", "torchvision", "open_clip", "safetensors", "onnx", "matplotlib")
SMALL = ("training.batch_size=10", "data.frames=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("described")
    write_dataset(root, per_class=3)
    return root


def test_from_a_file_to_an_answer(data: Path, invoke, process, empty: Path) -> None:
    train = ["train", "--method", "coop", "--root", str(data), "--shots", "1", "--epochs", "1", "--out"]
    small = [word for size in SMALL for word in ("--set", size)]
    file = empty / "told.json"
    file.write_text('{"kicking_a_ball": ["a foot and a ball"], "riding a bike": []}', encoding="utf-8")
    code, _, err = invoke(empty, [*train, "run", *small, "--descriptions", "told.json"])
    assert code == 1
    assert "the descriptions lack 2 of 4 classes: waving a flag, rowing a boat" in err
    assert not (empty / "run").exists()
    code, _, err = invoke(empty, [*train, "run", *small, "--descriptions", "builtin"])
    assert code == 0, err
    assert "texts     208 sentences about 40 classes" in err
    report = json.loads(invoke(empty, ["eval", "run", "--json"]).out)
    assert report["descriptions"] == "208 sentences about 40 classes"
    code, _, err = invoke(empty, ["export", "run"])
    assert code == 0, err
    assert "40 classes are described by 208 sentences" in invoke(empty, ["info", "run/bundle"]).out
    labels = {
        "kicking a ball": [],
        "playing a violin": ["somebody with a bow", "a person plays"],
        "sleeping": [],
    }
    (empty / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    clip = str(next(data.glob("*.mp4")))
    words = ["predict", clip, "--classes", "labels.json", "--json", "--model"]
    by_onnx, by_torch = process(*words, "run/bundle", without=TORCH), invoke(empty, [*words, "run"])
    assert by_onnx.code == by_torch.code == 0, by_onnx.err + by_torch.err
    ours, theirs = (
        {row["label"]: row["probability"] for row in json.loads(answer.out)["results"][0]["predictions"]}
        for answer in (by_onnx, by_torch)
    )
    assert ours.keys() == labels.keys()
    assert ours == pytest.approx(theirs, abs=1e-4)
    plain = invoke(empty, [*words[:2], "--classes", "plain.txt", "--json", "--model", "run/bundle"])
    assert plain.code == 1  # no such file
    (empty / "plain.txt").write_text("\n".join(labels))
    plain = invoke(empty, [*words[:2], "--classes", "plain.txt", "--json", "--model", "run/bundle"])
    assert json.loads(plain.out)["results"] != json.loads(by_onnx.out)["results"]


def test_a_sentence_that_is_too_long(invoke, clip: Path, empty: Path) -> None:
    (empty / "labels.toml").write_text(f'running = ["legs", "{"far and " * 40}"]\nsleeping = []\n')
    answer = invoke(empty, ["predict", str(clip), "--model", "tiny", "--classes", "labels.toml"])
    assert answer.code == 1
    assert "class 'running', text 2 of 2" in answer.err
