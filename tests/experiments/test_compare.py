"""Runs compared by what `eval` saved: who is one method, which numbers are shown, and what is refused."""

import csv
import io
import itertools
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ga2clip.errors import UserError
from ga2clip.evaluation.clips import ClipAnswer, clip_lines
from ga2clip.evaluation.statistics import clip_variance, mean_interval, paired_t, wilson
from ga2clip.experiments.compare import compare
from ga2clip.experiments.compare_tables import draw, render
from ga2clip.files import file_sha256
from ga2clip.run import runs_in
from ga2clip.run_files import save_tensors, write_settings
from ga2clip.settings import Settings

Halves = Mapping[str, Sequence[int]]
Make = Callable[..., Path]
CLIPS = 40


def _answer(file: str, hit: int) -> ClipAnswer:
    return ClipAnswer(file, "run", 8, (("run" if hit else "walk", 1.0),))


def right(n: int) -> list[int]:
    return [1] * n + [0] * (CLIPS - n)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run as training and `eval` leave it: (name, hits by test set, settings)."""

    def run(
        name: str, halves: Halves, measured: str = "stickfigures-base-to-novel", **tree: dict[str, Any]
    ) -> Path:
        folder = tmp_path / name
        settings = Settings().updated(tree, "the test")
        folder.mkdir()
        write_settings(folder, settings)
        header = {"schema": 2, "classes": ["run"], "method": "x", "backbone": "tiny", "licence": "MIT"}
        save_tensors(
            folder / "prompts.safetensors",
            {"x": torch.zeros(1)},
            {key: json.dumps(value) for key, value in header.items()},
        )
        place = folder / "eval" / measured
        place.mkdir(parents=True)
        about = {"dataset": "stickfigures", "protocol": "base-to-novel", "views": "1x1", "frames": 8}
        digest = {"run_sha256": file_sha256(folder / "prompts.safetensors")}
        (place / "report.json").write_text(json.dumps(about | digest))
        parts = [
            (
                part,
                1,
                [
                    ClipAnswer(f"{n}.mp4", "run", 8, (("run" if hit else "walk", 1.0),))
                    for n, hit in enumerate(hits)
                ],
            )
            for part, hits in halves.items()
        ]
        (place / "clips.csv").write_text(clip_lines(parts))
        return folder

    return run


def seeds(make: Make, method: str, base: Sequence[int], novel: Sequence[int], **tree: Any) -> list[Path]:
    """One run per seed, with so many clips right."""
    return [
        make(
            f"{method}-{seed}",
            {"base": right(b), "novel": right(n)},
            method={"name": method, **tree},
            training={"seed": seed},
        )
        for seed, (b, n) in enumerate(zip(base, novel, strict=True), 1)
    ]


def test_runs_that_differ_in_their_seed_are_one_method(make: Make) -> None:
    ivlp, ga2 = (
        seeds(make, "ivlp", [20, 22, 24], [10, 12, 14]),
        seeds(make, "ga2", [26, 27, 31], [10, 13, 14]),
    )
    found = compare([*ivlp, *reversed(ga2)])
    assert [(method.name, len(method.runs)) for method in found.methods] == [("ivlp", 3), ("ga2", 3)]
    assert found.names == ("base", "novel", "HM")
    method = found.methods[0]
    assert method.mean("base") == pytest.approx(22 / 40)
    harmonic = [2 * b * n / (b + n) / 40 for b, n in ((20, 10), (22, 12), (24, 14))]
    assert method.mean("HM") == pytest.approx(np.mean(harmonic))
    hits = [right(count) for count in (20, 22, 24)]
    assert method.interval("base") == pytest.approx(mean_interval([0.5, 0.55, 0.6], clip_variance(hits)))
    low, high = method.interval("HM")
    assert low < method.mean("HM") < high
    pair = next(pair for pair in found.pairs if pair.on == "base")
    assert (pair.ours, pair.theirs, pair.test, pair.seeds) == ("ga2", "ivlp", "paired t", 3)
    assert pair.difference == pytest.approx(18 / 3 / 40)
    assert pair.p == pytest.approx(paired_t([26, 27, 31], [20, 22, 24]))


def test_one_seed_is_tested_clip_by_clip(make: Make) -> None:
    """Eight clips only ga2, none only ivlp: p = 2 / 2⁸. The harmonic mean of one seed has no test."""
    found = compare(seeds(make, "ivlp", [20], [10]) + seeds(make, "ga2", [28], [10]))
    pairs = {pair.on: pair for pair in found.pairs}
    assert (pairs["base"].p, pairs["base"].test) == (pytest.approx(2 / 256), "exact McNemar")
    assert pairs["novel"].p == 1.0
    assert math.isnan(pairs["HM"].p)
    assert found.methods[1].interval("base") == wilson(28, 40)


def test_only_common_seeds_are_paired(make: Make) -> None:
    found = compare(seeds(make, "ivlp", [20, 22, 24], [9, 9, 9]) + seeds(make, "ga2", [26, 27], [9, 9]))
    pair = found.pairs[0]
    assert (pair.seeds, pair.difference) == (2, pytest.approx((6 + 5) / 2 / 40))


def test_an_untrained_model_is_the_same_with_every_seed(make: Make) -> None:
    zero, ga2 = seeds(make, "zero-shot", [18], [15], tune="none"), seeds(make, "ga2", [26, 29], [14, 15])
    pair = compare([*zero, *ga2]).pairs[0]
    assert (pair.seeds, pair.difference) == (2, pytest.approx((8 + 11) / 2 / 40))
    assert pair.p == pytest.approx(paired_t([26, 29], [18, 18]))


def test_methods_of_one_name_are_told_apart_by_their_settings(make: Make) -> None:
    halves = {"test": right(20)}
    runs = [
        make(name, halves, method={"name": "ga2", "coupling": coupling}, training={"workers": workers})
        for name, coupling, workers in (("a", "mapping", 0), ("b", "residual", 3))
    ]
    runs.append(make("c", halves, method={"name": "ivlp"}))
    found = compare(runs)
    names = ["ga2 (method.coupling=mapping)", "ga2 (method.coupling=residual)", "ivlp"]
    assert [method.name for method in found.methods] == names
    assert found.names == ("test",)


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex"])
def test_every_form_has_the_numbers(make: Make, form: str) -> None:
    runs = seeds(make, "ivlp", [20, 22], [10, 12]) + seeds(
        make, "ga2", [26, 27], [10, 13], text_init="5 % | a_b"
    )
    text = render(compare(runs), form)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["against"] for row in rows] == [""] * 6 + ["ivlp"] * 3
        assert float(rows[0]["value"]) == pytest.approx(21 / 40)
        assert float(rows[6]["value"]) == pytest.approx(11 / 2 / 40)
        return
    assert "52.5 [" in text
    assert "stickfigures" in text
    assert "views 1x1" in text
    assert "not corrected for 3 comparisons" in text
    if form == "markdown":
        tables = [line for line in text.splitlines() if line.startswith("|")]
        assert {line.count("|") - line.count("\\|") for line in tables} == {6, 7}
    if form == "latex":
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
        assert "%" not in text.partition("\n% ")[0].replace(r"\%", "")


def test_names_do_not_break_tables(make: Make) -> None:
    runs = [
        make(str(n), {"test": right(n)}, method={"text_init": phrase})
        for n, phrase in ((1, "a|b_c & 5%"), (2, ""))
    ]
    found = compare(runs)
    assert r"a\|b_c & 5%" in render(found, "markdown")
    assert r"a|b\_c \& 5\%" in render(found, "latex")
    with pytest.raises(UserError, match="unknown format 'html'"):
        render(found, "html")


def test_the_plot_has_every_label_once_and_none_collides(make: Make, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    runs = [
        make(
            f"run-{n}",
            {"base": right(20 + n), "novel": right(10 + n)},
            method={"text_init": f"a phrase of some length, the number {n} of a dozen of them"},
        )
        for n in range(12)
    ]
    drawn: list[Figure] = []
    save = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), save(figure, *a, **k))
        )
        draw(compare(runs), tmp_path / "plot.png")
    figure = drawn[0]
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 12
    rising = sorted(boxes, key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(rising))
    assert all(box.x1 <= figure.axes[0].get_window_extent().x0 for box in boxes)
    colours = [{line.get_color() for line in axes.get_lines()} for axes in figure.axes]
    assert len(set.union(*colours)) == len(colours) == 3
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("L"))
    assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255


def test_runs_that_were_not_measured_are_refused_with_the_command(make: Make) -> None:
    measured = make("a", {"test": right(3)})
    others = [
        make("b", {"test": right(3)}, "stickfigures-zero-shot"),
        make("c d", {"test": right(3)}, "other"),
    ]
    with pytest.raises(UserError, match="stickfigures-base-to-novel") as caught:
        compare([measured, *others])
    hint = caught.value.hint or ""
    assert hint.startswith(f"ga2clip eval {others[0]} '{others[1]}'")
    assert "--eval with one of stickfigures-zero-shot" in hint
    assert compare([others[0]], "stickfigures-zero-shot").names == ("test",)


def test_a_run_that_was_trained_on_since_is_refused(make: Make) -> None:
    run = make("a", {"test": right(3)})
    (run / "eval/stickfigures-base-to-novel/report.json").write_text('{"run_sha256": "0"}')
    with pytest.raises(UserError, match="trained on since") as caught:
        compare([run])
    assert caught.value.hint == f"ga2clip eval {run}"


def test_what_cannot_be_paired_is_refused(make: Make) -> None:
    a, b = make("a", {"test": right(3)}), make("b", {"test": right(3)[:-1]}, method={"name": "ivlp"})
    with pytest.raises(UserError, match=r"different clips, such as 39\.mp4"):
        compare([a, b])
    twin = make("twin", {"test": right(3)})
    with pytest.raises(UserError, match="same training with the same seed 1"):
        compare([a, twin])
    report = b / "eval/stickfigures-base-to-novel/report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"views": "4x3"}))
    with pytest.raises(UserError, match="views is 1x1 and 4x3"):
        compare([a, b])
    report.write_text("[1]")
    with pytest.raises(UserError, match="damaged"):
        compare([b])


def test_a_folder_of_runs_stands_for_them(make: Make, tmp_path: Path) -> None:
    runs = seeds(make, "ga2", [1, 2], [1, 2])
    assert runs_in([tmp_path]) == runs
    shutil.copytree(runs[0], tmp_path / "season" / "ga2" / "seed-1")  # as a sweep has them
    assert runs_in([tmp_path / "season"]) == [tmp_path / "season/ga2/seed-1"]
    shutil.rmtree(tmp_path / "season")
    assert runs_in([runs[1], runs[0]]) == [runs[1], runs[0]]
    assert runs_in([tmp_path / "none"]) == [tmp_path / "none"]


def _label(run: Path, *labels: str) -> None:
    """Write the run's results again: the n-th clip has the n-th label, and is answered rightly."""
    answers = [ClipAnswer(f"{n}.mp4", label, 8, ((label, 1.0),)) for n, label in enumerate(labels)]
    (run / "eval/stickfigures-base-to-novel/clips.csv").write_text(clip_lines([("test", 1, answers)]))


def test_a_clip_that_has_another_label_by_now_is_no_pair(make: Make) -> None:
    """One run was measured before a label was corrected, the other after it."""
    a, b = make("a", {"test": right(3)}), make("b", {"test": right(3)}, method={"name": "ivlp"})
    _label(a, "run", "run", "walk")
    _label(b, "run", "walk", "walk")
    for pair in ([a, b], [b, a]):
        with pytest.raises(
            UserError, match=r"different labels: 1\.mp4 \(test\) is '(run|walk)' and"
        ) as caught:
            compare(pair)
        assert str(caught.value.hint) == f"ga2clip eval {pair[0]} {pair[1]}"
    # Classes of other names, as with --class-names, are the same classes.
    _label(b, "Run", "Run", "a walk")
    assert compare([a, b]).pairs[0].p == 1


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("PDF", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_says_what_is_drawn(make: Make, tmp_path: Path, suffix: str, start: bytes) -> None:
    draw(compare([make("a", {"test": right(3)})]), tmp_path / f"plot.{suffix}")
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(start)


def test_a_figure_of_another_format_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no format of a figure '\.txt'") as caught:
        draw(compare([make("a", {"test": right(3)})]), tmp_path / "plot.txt")
    assert str(caught.value.hint) == "use .png, .pdf, .svg"
    assert not (tmp_path / "plot.txt").exists()
