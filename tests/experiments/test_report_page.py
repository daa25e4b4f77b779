"""The report page: its numbers, that no name can break out of it, that it stays small, and how a browser shows it."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.experiments import report_numbers as numbers
from ga2clip.experiments.compare import Measurement
from ga2clip.experiments.report_page import Thumbnails, render
from ga2clip.run import Run
from ga2clip.settings import Settings

HOSTILE = '</script><img src=x onerror="document.title=`broken`">'
ODD = [
    "跑步和跳跃",
    "👨‍👩‍👧 dancing 💃",
    HOSTILE,
    "a\u202ebackwards",
    "putting something similar to other things " * 8,
]


def answered(file: str, label: str, *ranked: tuple[str, float]) -> ClipAnswer:
    return ClipAnswer(file, label, 8, ranked)


def measurement(folder: Path, classes: int, clips: int = 3) -> Measurement:
    """A measurement of made-up answers, with odd names among the classes."""
    draw = np.random.default_rng(classes)
    names = [*ODD[: max(1, classes - 2)], *(f"action number {n} of many" for n in range(classes))][:classes]
    answers = {}
    for number, name in enumerate(names):
        for clip in range(clips):
            first = name if draw.random() < 0.6 else names[int(draw.integers(classes))]
            second = names[(number + 1) % classes] if first == name else name
            score = round(float(draw.uniform(0.5, 1)), 6)
            file = f"{HOSTILE[:9]}{number}/{clip}.mp4"
            answers["test", 1, file] = answered(file, name, (first, score), (second, 1 - score))
    figures = {
        "top1": 0.6,
        "top1_interval": [0.5, 0.7],
        "top5": 0.9,
        "mean_per_class": 0.6,
        "n": len(answers),
    }
    report = {
        "dataset": HOSTILE,
        "protocol": "few-shot",
        "rule": "made up",
        "frames": 8,
        "views": "1x1",
        "class_names": "readable",
        "template": "{}.",
        "intervals": "95 %",
        "errors": [],
        "test": figures,
    }
    lines = [
        {"step": n, "epoch": 1, "lr": 0.01, "loss": 4 / n, "accuracy": 0.5, "grad_norm": 1.0}
        for n in range(1, 301)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Measurement(Run(folder, Settings(), tuple(names), {"backbone": "tiny"}), report, answers)


def test_calibration_error_is_that_of_the_definition() -> None:
    """Worked by hand: |0.55 − 0.5| of two clips and |0.95 − 0| of one, over three."""
    answers = [
        answered("a", "x", ("x", 0.55), ("y", 0.45)),
        answered("b", "x", ("y", 0.55), ("x", 0.45)),
        answered("c", "x", ("y", 0.95), ("x", 0.05)),
        answered("d", "x"),
    ]
    bins, error = numbers.reliability(answers)
    assert error == pytest.approx((2 * 0.05 + 0.95) / 3)
    assert [(b.count, b.accuracy) for b in bins] == [(2, 0.5), (1, 0.0)]


def test_the_surest_mistakes_and_the_closest_calls_come_first() -> None:
    answers = [
        answered("sure", "x", ("y", 0.9), ("x", 0.1)),
        answered("less", "x", ("y", 0.6), ("x", 0.4)),
        answered("right", "x", ("x", 0.51), ("y", 0.49)),
        answered("certain", "x", ("x", 0.75), ("y", 0.25)),
        answered("unread", "x"),
    ]
    assert [a.file for a in numbers.wrong_clips(answers, 9)] == ["sure", "less"]
    assert [a.file for a in numbers.unsure_clips(answers, 9)] == ["right", "less"]
    untuned = {a.file: answered(a.file, "x", ("x", 1.0)) for a in answers}
    (line,) = numbers.class_lines(answers, untuned)
    assert (line.clips, line.accuracy, line.untuned, line.taken_for) == (5, 0.4, 1.0, ("y", 2))
    assert numbers.against(answers, untuned) == (pytest.approx(-0.6), 0.25)  # 3 against 0: 2 · ½³


class Tags(html.parser.HTMLParser):
    """Every element with its attributes, and all text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._raw = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._raw else data


def test_names_are_shown_and_never_run(tmp_path: Path) -> None:
    measured = measurement(tmp_path / 'r"><script>', 6)
    files = [answer.file for answer in measured.answers.values()]
    strips = Thumbnails({files[0]: "data:image/jpeg;base64,AA=="}, {files[1]: HOSTILE})
    page = render(measured, measured.answers, thumbnails=strips)
    found = Tags(page)
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [
        {"type": "application/json"},
        {},
    ]
    assert all(
        attributes["src"].startswith("data:image/jpeg") for tag, attributes in found.tags if tag == "img"
    )
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in found.text  # as the text that it is
    assert "跑步和跳跃" in found.text
    assert "👨‍👩‍👧 dancing 💃" in found.text
    assert "a\\u202ebackwards" in found.text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_names_from_right_to_left_leave_numbers_where_they_are(tmp_path: Path) -> None:
    """Else a browser shows "96.4 ⟨name⟩ %": what stands behind a name is no part of its line of letters."""
    name = "القفز والجري"
    measured = measurement(tmp_path, 3)
    answers = {("test", 1, "a.mp4"): answered("a.mp4", "run", (name, 0.9), ("run", 0.1))}
    page = render(Measurement(measured.run, measured.report, answers), None, "the data is gone")
    assert f"<bdi>{name}</bdi> 90.0 %, <bdi>run</bdi> 10.0 %" in page
    assert f"<bdi>{name}</bdi> (1)" in page


def test_the_page_is_the_same_again_and_says_what_is_missing(tmp_path: Path) -> None:
    measured = measurement(tmp_path, 4)
    page = render(measured, None, "the data is gone")
    assert page == render(measured, None, "the data is gone")
    assert "Not compared with zero-shot: the data is gone." in page
    assert "no frames: the dataset was not read" in page


def test_four_hundred_classes_make_a_small_page(tmp_path: Path) -> None:
    measured = measurement(tmp_path, 400, clips=50)  # 20,000 clips, as Kinetics-400 has
    page = render(measured, measured.answers)
    assert len(page.encode()) < 3_000_000
    assert page.count("<figure>") < 50
    assert "most frequent of" in page


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("classes", [4, 174, 400])
def test_a_browser_draws_the_matrix_and_runs_nothing_else(tmp_path: Path, classes: int) -> None:
    page = tmp_path / "report.html"
    measured = measurement(tmp_path / "run", classes)
    page.write_text(render(measured, measured.answers), encoding="utf-8")
    words = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    words += ["--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "<title>ga2 on tiny</title>" in shown.stdout
    left = shown.stdout.partition('<div class="left">')[2].partition("</section>")[0]
    assert left.count("<div title=") == classes  # a label for each row
    assert "<path" in left
    assert ("<text" in left) == (classes <= 40)  # counts in cells that are large enough
    assert ('class="matrix large"' in shown.stdout) == (classes > 60)
