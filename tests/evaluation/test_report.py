"""Reports as files: whole pictures, whatever the number and the length of the class names."""

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
