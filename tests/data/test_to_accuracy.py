"""From a folder as its owners hand it out to an accuracy: prepare → train → eval, with a broken clip in each."""

import csv
import json
import os
from pathlib import Path

import pytest

from ga2clip.data import prepare as prepare_module
from ga2clip.data.prepare import prepare
from ga2clip.evaluation.evaluate import evaluate_all, evaluate_run
from ga2clip.training import job, train
from ga2clip.training.configure import configure

_SEED_OF_FOLDER = 9
# dataset: (broken clips of the run's test list, clips of it, missing, classes)
EXPECTED = {
    "ucf101": ([1], [2], 1, ["applying eye makeup", "playing with a yo-yo"]),
    "hmdb51": ([1], [2], 1, ["brushing hair", "waving a hand"]),
    "ssv2": ([1], [2], 1, ["holding something", "pushing something from left to right"]),
    "kinetics400": ([1], [2], 1, ["abseiling", "air drumming"]),
    "kinetics600": ([1], [2], 1, ["abseiling", "air drumming"]),
    "folder": ([1], [2], 0, ["jump rope", "doing yoga"]),
    "csv": ([1], [4], 1, ["jumping a rope", "yoga"]),
}


ALWAYS = ("ssv2", "folder", "csv")
"""Official lists, drawn splits, and a list of one's own; `test_prepare.py` reads every layout."""


def trained(name: str, root: Path, clip_file: Path, out: Path, protocol: str = "few-shot") -> Path:
    """A run with the dataset's own recipe, cut down to a tiny backbone, two frames and one epoch."""
    sizes = ["data.frames=2", "data.shots=1", "training.epochs=1", "training.batch_size=2"]
    sizes += ["training.workers=0", "method.text_length=2", "method.vision_length=2", "anchors.per_step=1"]
    settings = configure(
        dataset=name,
        protocol=protocol,
        options={
            "data": {"root": str(root)},
            "backbone": {"pretrained": str(clip_file)},
            "method": {"coupling": "none"},
        },
        overrides=sizes,
    )
    return train.train(settings, out, device="cpu", progress=False)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "_ANCHORS", 2)
    monkeypatch.setattr(job, "draw_curves", lambda _: None)


@pytest.mark.parametrize(
    "name",
    [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in EXPECTED],
)
def test_every_layout_reaches_an_accuracy_past_its_broken_clips(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, clip_file: Path
) -> None:
    root = request.getfixturevalue(name)
    broken, tested, missing, classes = EXPECTED[name]
    list_file = root.parent / "list.csv" if name == "csv" else None
    # The broken clip of the folder is a test clip with this seed.
    found = prepare(name, root, workers=1, list_file=list_file, seed=_SEED_OF_FOLDER)
    assert (len(found.broken), len(found.missing)) == (1, missing)
    halves, all_classes = evaluate_all(
        trained(name, root, clip_file, tmp_path / "run"), device="cpu", progress=False
    )
    assert sorted(part.classes[0] for part in halves.sets) == sorted(classes)
    assert halves.harmonic_mean is not None
    assert [len(part.broken) for part in all_classes.sets] == broken
    assert [part.scores.n for part in all_classes.sets] == tested
    first = all_classes.sets[0]
    assert list(first.classes) == classes
    assert first.scores.top5 == pytest.approx(1 - broken[0] / tested[0])  # of two classes: what could be read
    assert "1 clip could not be read and count as wrong" in all_classes.table()
    assert [error["file"] for error in all_classes.to_json()["errors"]] == [found.broken[0][0]]
    assert ("1 clip of its lists not on disk" in all_classes.rule) == bool(missing)


def test_a_clip_that_prepare_found_broken_is_not_decoded_again(
    ssv2: Path, tmp_path: Path, clip_file: Path, make_video
) -> None:
    """It might crash the process or hang; so that the accuracy is the manifest's, whatever happened to the file."""
    prepare("ssv2", ssv2, workers=1)
    run = trained("ssv2", ssv2, clip_file, tmp_path / "run")
    make_video(ssv2 / "20bn-something-something-v2" / "105.webm", seed=1)
    report = evaluate_run(run, device="cpu", progress=False)
    assert [name for name, _ in report.sets[0].broken] == ["20bn-something-something-v2/105.webm"]


def test_reports_survive_any_file_name(tmp_path: Path, clip_file: Path, make_video) -> None:
    root, name = tmp_path / "mine", os.fsdecode(b"line\nbreak, \xff.mp4")
    for number, place in enumerate(("train/rope/0.mp4", "train/yoga/0.mp4", "test/yoga/1.mp4")):
        make_video(root / place, seed=number)
    (root / "test" / "rope").mkdir()
    (root / "test" / "rope" / name).write_text("no video")
    prepare("folder", root, workers=1)
    report = evaluate_run(trained("folder", root, clip_file, tmp_path / "run"), device="cpu", progress=False)
    report.write(tmp_path / "eval")
    tree = json.loads((tmp_path / "eval" / "report.json").read_text())
    assert [error["file"] for error in tree["errors"]] == [f"test/rope/{name}"]
    rows = list(csv.DictReader((tmp_path / "eval" / "per_class.csv").open()))
    assert [(row["class"], row["clips"]) for row in rows] == [("rope", "1"), ("yoga", "1")]
