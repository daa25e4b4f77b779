"""Own clips over months, as a user types it: classes and recordings are added, timelines corrected and trained on."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ga2clip.data import prepare as prepare_module
from ga2clip.data.manifest import Manifest
from ga2clip.video import write_video

COLOURS = {"lifting": (220, 40, 40), "sitting": (40, 200, 40), "waving": (40, 40, 220)}
SMALL = ("--shots", "4", "--epochs", "1", "--frames", "2", "--method", "ivlp", "--protocol", "few-shot")
SIZES = (
    "backbone.name=tiny",
    "training.batch_size=4",
    "method.text_length=4",
    "method.vision_length=4",
    "training.workers=0",
)


def frames(label: str, seed: int, count: int = 5) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 30, (count, 48, 64, 3))
    return (noise + np.array(COLOURS[label])).clip(0, 255).astype(np.uint8)


def fill(root: Path, label: str, first: int, last: int) -> None:
    for number in range(first, last):
        (root / label).mkdir(parents=True, exist_ok=True)
        write_video(root / label / f"clip {number}.mp4", frames(label, number), 5)


@pytest.fixture(autouse=True)
def few_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "_ANCHORS", 0)


@pytest.fixture
def walk(empty: Path, invoke) -> Callable[..., str]:
    """Runs a command that must succeed; stdout."""

    def run(*words: str) -> str:
        code, out, err = invoke(empty, list(words))
        assert code == 0, err
        return out

    return run


def small(out: str, *words: str) -> tuple[str, ...]:
    sizes = [word for size in SIZES for word in ("--set", size)]
    return ("train", "--dataset", "folder", "--root", "clips", *SMALL, *sizes, "--out", out, *words)


def test_classes_are_added_and_runs_stay_true(walk, invoke, empty: Path) -> None:
    prepare = ("prepare", "--dataset", "folder", "--root", "clips", "--workers", "1")
    fill(empty / "clips", "lifting", 0, 8)
    fill(empty / "clips", "sitting", 0, 8)
    assert "note:" not in walk(*prepare)
    before = {clip.path: clip.split for clip in Manifest.read(empty / "clips").clips}
    walk(*small("runs/two"))
    first = json.loads(walk("eval", "runs/two", "--json"))
    assert first["test"]["n"] == 4
    fill(empty / "clips", "waving", 0, 8)
    fill(empty / "clips", "lifting", 8, 10)
    assert "came                10 since it was prepared before" in walk(*prepare)
    after = {clip.path: clip.split for clip in Manifest.read(empty / "clips").clips}
    assert {path: after[path] for path in before} == before
    code, out, err = invoke(empty, ["eval", "runs/two", "--json"])
    assert (code, json.loads(out)["test"]["n"]) == (0, 6)
    assert "1 class came to folder since runs/two was trained, such as 'waving'" in err
    # Another seed draws again: what the run knows is no longer for testing it.
    assert "  moved" in walk(*prepare, "--seed", "3")
    for words in (["eval", "runs/two"], ["export", "runs/two", "--verify-accuracy"]):
        code, out, err = invoke(empty, words)
        assert (code, out) == (1, "")
        assert "runs/two was trained on" in err
        assert "ga2clip train --recipe runs/two" in err
    assert not (empty / "runs/two/bundle").exists()
    code, _, err = invoke(empty, ["prepare", "--dataset", "stickfigures", "--root", "clips"])
    assert code == 1
    assert "clips is prepared as 'folder', not as 'stickfigures'" in err


def test_a_run_is_followed_extended_and_told_of_pieces(walk, invoke, empty: Path) -> None:
    for label in ("lifting", "sitting"):
        for recording in range(4):
            for piece in range(2):
                (empty / "clips" / label).mkdir(parents=True, exist_ok=True)
                name = f"{label[0]}{recording}_part{piece}.mp4"
                write_video(empty / "clips" / label / name, frames(label, 10 * recording + piece), 5)
    prepare = ("prepare", "--dataset", "folder", "--root", "clips", "--workers", "1")
    said = walk(*prepare)
    assert "look like pieces of one recording" in said
    pattern = said.partition("--group-pattern '")[2].partition("'")[0]
    assert "note:" not in walk(*prepare, "--group-pattern", pattern)
    sides: dict[str, set[str]] = {}
    for clip in Manifest.read(empty / "clips").clips:
        sides.setdefault(clip.group, set()).add(clip.split)
    assert sorted(sides) == [f"{label}{n}" for label in "ls" for n in range(4)]
    assert all(len(side) == 1 for side in sides.values())
    walk(*small("runs/followed", "--val", "0.25", "--patience", "3"))
    lines = [json.loads(line) for line in (empty / "runs/followed/metrics.jsonl").read_text().splitlines()]
    assert [("val_accuracy" in line, line["epoch"]) for line in lines] == [(False, 1), (True, 1)]
    walk("train", "--resume", "runs/followed", "--epochs", "2")
    assert len((empty / "runs/followed/metrics.jsonl").read_text().splitlines()) == 4
    text = (empty / "runs/followed/settings.toml").read_text()
    assert "epochs = 2" in text
    assert "extended = [\n    1,\n]" in text
    code, _, err = invoke(empty, ["train", "--resume", "runs/followed", "--shots", "2"])
    assert code == 2
    assert "only --epochs and --set may stand beside --resume" in err


def test_a_timeline_is_corrected_and_trained_on(walk, empty: Path) -> None:
    """Two long recordings, one of them predicted and corrected."""
    (empty / "footage").mkdir()
    for number, day in enumerate(("monday", "tuesday")):
        parts = [
            frames(label, 10 * number + n, 10) for n, label in enumerate(("lifting", "sitting", "waving"))
        ]
        write_video(empty / "footage" / f"{day}.mp4", np.concatenate(parts), 5)
    (empty / "labels.txt").write_text("lifting\nsitting\nwaving\n")
    rows = []
    for day in ("monday", "tuesday"):
        walk(
            *("predict", f"footage/{day}.mp4", "--timeline", "--window", "1", "--stride", "1"),
            *("--classes", "labels.txt", "--csv", f"{day}.csv", "--vtt", f"{day}.vtt"),
        )
        head, *lines = (empty / f"{day}.csv").read_text().splitlines()
        assert head == "path,start,end,label,score"
        assert lines
        assert all(line.startswith(f"footage/{day}.mp4,") for line in lines)
        cues = (empty / f"{day}.vtt").read_text()
        assert cues.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:0")
        assert cues.count("-->") == len(lines)
        # The user writes what it really shows.
        rows += [f"footage/{day}.mp4,{2 * n},{2 * n + 2},{label}," for n, label in enumerate(COLOURS)]
    (empty / "corrected.csv").write_text("\n".join([head, *rows]) + "\n")
    listed = ("--dataset", "csv", "--root", "footage")
    assert "csv: 3 classes" in walk("prepare", *listed, "--list", "corrected.csv", "--workers", "1")
    clips = Manifest.read(empty / "footage").clips
    assert [(clip.first, clip.frames, clip.group) for clip in clips[:3]] == [
        (start, 10, "monday.mp4") for start in (0, 10, 20)
    ]
    assert {clip.path: clip.split for clip in clips} in (
        {"monday.mp4": "train", "tuesday.mp4": "test"},
        {"monday.mp4": "test", "tuesday.mp4": "train"},
    )
    sizes = [word for size in SIZES for word in ("--set", size)]
    walk("train", *listed, *SMALL, *sizes, "--out", "runs/spans")
    report = json.loads(walk("eval", "runs/spans", "--json"))
    assert report["test"]["n"] == 3


def test_one_recording_is_all_for_training_which_is_said(walk, invoke, empty: Path) -> None:
    write_video(empty / "day.mp4", np.concatenate([frames(label, 0, 10) for label in COLOURS]), 5)
    rows = [f"day.mp4,{2 * n},{2 * n + 2},{label}" for n, label in enumerate(COLOURS)]
    (empty / "list.csv").write_text("\n".join(["path,start,end,label", *rows]))
    listed = ("--dataset", "csv", "--root", ".")
    said = walk("prepare", *listed, "--list", "list.csv", "--workers", "1")
    assert "note: no clip is for testing: `eval` has nothing to measure" in said
    sizes = [word for size in SIZES for word in ("--set", size)]
    code, _, err = invoke(empty, ["train", *listed, *SMALL, *sizes, "--out", "runs/one"])
    assert code == 0
    assert "there is no test clip for the test classes: `eval` can't measure this run" in err
    assert "3 of 3 classes have fewer than 4 training clips" in err
    code, _, err = invoke(empty, ["eval", "runs/one"])
    assert code == 1
    assert "there is no test clip for the test classes" in err


def test_prompts_that_were_not_trained_are_no_zero_shot(walk, process, empty: Path) -> None:
    """Said at once, before the weights of a large backbone are asked for."""
    fill(empty / "clips", "lifting", 0, 2)
    fill(empty / "clips", "sitting", 0, 2)
    walk("prepare", "--dataset", "folder", "--root", "clips", "--workers", "1")
    code, out, err = process("train", "--dataset", "folder", "--root", "clips", "--protocol", "zero-shot")
    assert (code, out) == (1, "")
    assert "zero-shot trains nothing: what 'recommended' learns would stay as it starts" in err
    assert "hint: take --method zero-shot" in err
    assert not (empty / "runs").exists()
