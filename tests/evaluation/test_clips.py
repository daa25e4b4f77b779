"""`clips.csv`: what it says, that it survives any name, and what a damaged one leads to."""

import csv
from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.evaluation.clips import ClipAnswer, clip_lines, read_answers

ANSWERS = (
    ClipAnswer("=a.mp4", "run", 24, (("run", 0.75), ("walk", 0.25))),
    ClipAnswer(
        '\'b, "c"\r.mp4', "run", 3, (("walk", 0.5), ("run", 0.5)), "has 3 frames, of which 8 were taken"
    ),
    ClipAnswer("\udcff.mp4", "walk", 0, (), "no frame can be decoded"),
)


def test_a_row_says_what_was_answered(tmp_path: Path) -> None:
    file = tmp_path / "clips.csv"
    file.write_text(clip_lines([("base", 1, ANSWERS)]), encoding="utf-8")
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["correct"] for row in rows] == ["1", "0", "0"]
    first = {key: rows[0][key] for key in ("set", "split", "file", "label", "frames", "warnings")}
    assert first == {
        "set": "base",
        "split": "1",
        "file": "'=a.mp4",
        "label": "run",
        "frames": "24",
        "warnings": "",
    }
    assert [rows[0][f"{name}_2"] for name in ("answer", "score")] == ["walk", "0.250000"]
    assert rows[0]["answer_3"] == rows[2]["answer_1"] == ""
    assert rows[2]["warnings"] == "no frame can be decoded"


def test_answers_are_read_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "clips.csv"
    file.write_text(clip_lines([("base", 1, ANSWERS)]), encoding="utf-8", newline="")
    assert list(read_answers(file).values())[:2] == list(ANSWERS[:2])


def test_what_was_right_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "clips.csv"
    file.write_text(
        clip_lines([("base", 1, ANSWERS), ("novel", 2, ANSWERS[:1])]), encoding="utf-8", newline=""
    )
    assert {key: answer.correct for key, answer in read_answers(file).items()} == {
        ("base", 1, "=a.mp4"): True,
        ("base", 1, '\'b, "c"\r.mp4'): False,
        ("base", 1, "\\udcff.mp4"): False,
        ("novel", 2, "=a.mp4"): True,
    }


@pytest.mark.parametrize(
    "text",
    [
        "set,split,file\nbase,1,a\n",
        "set,split,file,correct\nbase,x,a,1\n",
        "set,split,file,correct\nbase,1,a,2\n",
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "clips.csv"
    file.write_text(text)
    with pytest.raises(UserError, match="damaged"):
        read_answers(file)
    with pytest.raises(UserError, match="cannot read"):
        read_answers(tmp_path / "none.csv")
