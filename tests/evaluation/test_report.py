"""Reports as files: whole pictures, whatever the number, the length and the script of the class names."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ga2clip.evaluation.metrics import score
from ga2clip.evaluation.report import Report, SetReport


@pytest.mark.parametrize(("names", "sets"), [(2, 1), (20, 2), (64, 1)])
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
