"""`docs/tutorial.md` as a reader walks it: its own commands, on drawn clips of which two lie in the wrong folder."""

import csv
import html
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ga2clip.data.stickfigures.classes import ACTION_CLASSES
from ga2clip.data.stickfigures.render import FPS, render_action
from ga2clip.video import write_video

PAGE = (Path(__file__).resolve().parents[2] / "docs/tutorial.md").read_text(encoding="utf-8")
STEPS = re.findall(r"<!-- run -->\n```sh\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", PAGE, re.DOTALL)
"""Commands, and what the page says that they print."""
CLASSES = (
    "kicking a ball",
    "kicking a box",
    "lifting a box",
    "riding a bike",
    "rowing a boat",
    "playing a guitar",
)
WRONG = ("lake-1.mp4", "lake-2.mp4")


def draw_clips(root: Path) -> None:
    for name in CLASSES:
        (root / name.replace(" ", "_")).mkdir(parents=True)
    for number in range(10):
        for name in CLASSES:
            file = root / name.replace(" ", "_") / f"{name.split()[-1]}-{number + 1}.mp4"
            write_video(file, render_action(ACTION_CLASSES[name], number), FPS)
    for number, name in enumerate(WRONG, 10):
        bike = render_action(ACTION_CLASSES["riding a bike"], number)
        write_video(root / "rowing_a_boat" / name, bike, FPS)


def shape(line: str) -> str:
    """A line without its numbers, which differ a little from machine to machine, and without its columns."""
    return " ".join(re.sub(r"[+−-]?\d+(?:\.\d+)?", "N", line).split())


def test_the_walk_is_short_and_shows_what_it_prints() -> None:
    commands = [line for words, _ in STEPS for line in words.splitlines()]
    assert len(commands) < 10
    assert all(line.startswith(("ga2clip ", "mv ")) for line in commands)
    assert all(printed for _, printed in STEPS)


@pytest.mark.slow
def test_a_newcomer_finds_the_wrong_label_trains_again_and_exports(empty: Path, invoke) -> None:
    draw_clips(empty / "my-clips")
    file = re.search(r"```toml\n# season\.toml\n(.*?)```", PAGE, re.DOTALL)
    assert file
    (empty / "season.toml").write_text(file[1])
    said: dict[str, str] = {}
    for commands, expected in STEPS:
        printed = ""
        for command in commands.splitlines():
            words = shlex.split(command)
            if words[0] == "ga2clip":
                code, out, err = invoke(empty, words[1:])
                assert code == 0, err
                printed += out
                said[words[1]] = out
            else:
                subprocess.run(words, check=True, cwd=empty)
        lines = {shape(line) for line in printed.splitlines()}
        assert [line for line in expected.splitlines() if shape(line) not in lines] == []

    measured = empty / "runs/season/folder-coop/seed-1/eval/folder-few-shot"
    with (measured / "clips.csv").open(newline="", encoding="utf-8") as table:
        rows = {row["file"]: row for row in csv.DictReader(table)}
    planted = rows["rowing_a_boat/lake-1.mp4"]
    assert (planted["label"], planted["correct"], planted["answer_1"]) == (
        "rowing a boat",
        "0",
        "riding a bike",
    )
    page = html.unescape((measured / "report.html").read_text(encoding="utf-8"))
    wrong = page.partition("Wrong clips, the surest first")[2].partition("Unsure clips")[0]
    figures = [part for part in wrong.split("<figure>") if "rowing_a_boat/lake-1.mp4" in part]
    assert len(figures) == 1
    assert 'src="data:image/jpeg' in figures[0]
    answers = re.split(r"^(?=\S)", said["predict"], flags=re.MULTILINE)
    assert all(any(name in answer and "riding a bike" in answer for answer in answers) for name in WRONG)

    code, _, err = invoke(empty, ["sweep", "season.toml"])
    assert code == 1
    assert "is not what runs/season/folder-" in err
    code, _, err = invoke(
        empty, ["predict", "my-clips/riding_a_bike/bike-1.mp4", "--model", "runs/fixed/bundle"]
    )
    assert code == 0, err
