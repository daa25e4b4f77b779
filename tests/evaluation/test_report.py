"""Reports as files: whole pictures, whatever the number, the length and the script of the class names."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.evaluation.metrics import score
from ga2clip.evaluation.report import Report, SetReport, _drawable, comparison


@pytest.mark.parametrize(("names", "sets"), [(2, 1), pytest.param(20, 2, marks=pytest.mark.slow), (64, 1)])
def test_nothing_of_a_confusion_matrix_is_cut_off(tmp_path: Path, names: int, sets: int) -> None:
    classes = tuple(f"pretending to put something somewhere, number {number}" for number in range(names))
    answers = np.arange(names)
    part = SetReport("test", classes, score(answers[:, None], answers, names))
    Report("few-shot", "", (part,) * sets).write(tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "confusion.png").convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert border.min() == 255


def test_names_that_fonts_and_spreadsheets_trip_over(tmp_path: Path) -> None:
    """Matplotlib's font has no Chinese: it warns, which must not end an evaluation where warnings are errors."""
    classes = ("跑步", "=1+1", "\x1b[31m$x$")
    part = SetReport("test", classes, score(np.array([[0], [0], [2]]), np.arange(3), 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Report("few-shot", "", (part,)).write(tmp_path)
    assert Image.open(tmp_path / "confusion.png").size[0] > 100
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["跑步", "'=1+1", "\x1b[31m$x$"]
    assert rows[1]["most_often_taken_for"] == "跑步"


def _report(hits: list[bool], *, files: str = "abcdefgh") -> Report:
    """Halves with the same answers; class 0 is the label of all clips."""
    ranked = np.array([[0] if hit else [1] for hit in hits])
    clips = tuple(
        ClipAnswer(file, "run", 8, (("run" if hit else "walk", 1.0),))
        for file, hit in zip(files, hits, strict=False)
    )
    scores = score(ranked, np.zeros(len(hits), dtype=np.int64), 2)
    parts = tuple(SetReport(name, ("run", "walk"), scores, clips=clips) for name in ("base", "novel"))
    about = {"template": "{}.", "views": "1x1", "frames": 8, "class_names": "readable"}
    return Report("base-to-novel", "", parts, about)


def test_every_accuracy_has_its_interval() -> None:
    """5 of 8 by Wilson's formula: (k + z²/2) / (n + z²) ∓ z √(k (n − k) / n + z²/4) / (n + z²), z = 1.96."""
    report = _report([True] * 5 + [False] * 3)
    centre, reach = (5 + 1.9208) / (8 + 3.8415), 1.95996 * (15 / 8 + 0.9604) ** 0.5 / (8 + 3.8415)
    tree = report.to_json()
    assert tree["base"]["top1_interval"] == pytest.approx([centre - reach, centre + reach], abs=1e-4)
    low, high = tree["harmonic_mean_interval"]
    assert low < tree["harmonic_mean"] < high
    assert high - low < 2 * reach  # two halves know more than one
    base = next(line for line in report.table().splitlines() if line.startswith("base"))
    assert base.split()[1:5] == ["62.5", "30.6", "–", "86.3"]
    assert report.table().splitlines()[-1] == "template {}., views 1x1, frames 8, class names readable"


def test_models_are_compared_on_the_same_clips() -> None:
    """Six clips only ours, none only theirs: p = 2 / 2⁶."""
    ours, theirs = _report([True] * 7 + [False]), _report([False] * 6 + [True, False])
    against = ours.against(theirs)
    assert against["novel"] == pytest.approx({"difference": 0.75, "p": 2 / 64})
    assert "base +75.0 points (p = 0.031)" in comparison(against, "runs/a")
    assert ours.against(_report([True] * 8, files="ABCDEFGH")) == {}


def test_names_that_the_font_cannot_draw_become_their_number() -> None:
    """Boxes would look alike; per_class.csv has the names by line."""
    assert _drawable(["run", "跑步", "dancing 💃", "5 $ bill"]) == ["run", "class 2", "class 3", r"5 \$ bill"]
