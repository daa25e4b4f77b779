"""The published tables as data, and ours beside them."""

import csv
import io
import shlex
from pathlib import Path
from typing import Any

import pytest

from ga2clip.data.protocols import Task
from ga2clip.errors import UserError
from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.evaluation.metrics import harmonic_mean
from ga2clip.experiments import jobs, reproduce
from ga2clip.experiments.compare import Measurement
from ga2clip.settings import Settings
from ga2clip.training import expected
from ga2clip.training.expected import Expected
from ga2clip.training.summary import duration

PUBLISHED = ["hmdb51", "kinetics400", "ssv2", "ucf101"]
SETUP = reproduce.Setup(Path("runs"))
PUBLISHED_RATES = {"hmdb51": 4e-3, "kinetics400": 4e-2, "ssv2": 4e-3, "ucf101": 4e-2}


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_halves_have_the_published_mean(dataset: str) -> None:
    """A typing error in a figure would show here: 0.1 is the rounding of the published numbers."""
    figures = reproduce.plan(dataset)[0].published
    for column, rounding in ((0, 0.1), (1, 0.006)):
        halves = [figures[half][column] for half in ("base", "novel")]
        assert harmonic_mean(halves) == pytest.approx(figures["HM"][column], abs=rounding)


def test_few_shot_rows_rise_with_the_shots() -> None:
    rows = [row for row in reproduce.plan("ucf101") if row.protocol == "few-shot"]
    assert [row.shots for row in rows] == [2, 4, 8, 16]
    for column in (0, 1):
        figures = [row.published["test"][column] for row in rows]
        assert figures == sorted(figures)


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_the_last_epoch_is_at_most_the_best_on_the_test_set(dataset: str) -> None:
    """Both columns are in percent of the same test; novel halves were tested once."""
    for row in reproduce.plan(dataset):
        for name in row.published.keys() & {"base", "test"}:
            best, last = row.published[name]
            assert best - 1.9 < last <= best + 0.05


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_rows_run_the_published_composition(dataset: str) -> None:
    for row in reproduce.plan(dataset):
        settings = row.settings(SETUP, 1)
        method, anchors = settings.method, settings.anchors
        assert (method.preset, method.text_init, method.coupling) == ("authors", "", "mapping")
        assert (anchors.loss, anchors.negatives) == ("published", ("else",))
        assert not anchors.needs_videos
        assert (
            settings.training.lr
            == {"base-to-novel": PUBLISHED_RATES[dataset], "few-shot": 8e-3}[row.protocol]
        )


@pytest.mark.parametrize(
    "override", ["data.shots=3", "data.protocol=few-shot", "data.dataset=hmdb51", "method.name=ivlp"]
)
def test_a_row_stays_the_row_that_it_is_called(override: str) -> None:
    setup = reproduce.Setup(Path("runs"), "", (1,), [override])
    row = next(row for row in reproduce.plan("ucf101") if row.protocol != "few-shot")
    with pytest.raises(UserError, match=f"--set {override} contradicts the row"):
        row.settings(setup, 1)


def test_ssv2_few_shot_batches_are_those_of_the_logs() -> None:
    rows = [row for row in reproduce.plan("ssv2") if row.protocol == "few-shot"]
    batches = {row.shots: row.settings(SETUP, 1).training.batch_size for row in rows}
    assert batches == {2: 32, 4: 64, 8: 128, 16: 64}


def test_a_dataset_without_published_figures_is_refused() -> None:
    with pytest.raises(UserError, match="stickfigures") as caught:
        reproduce.plan("stickfigures")
    assert "ucf101" in (caught.value.hint or "")


def test_the_dry_run_shows_commands_that_mean_the_settings_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is that of the official clips where none are prepared: here 1 s a training clip, 0.1 s a test clip."""
    measured: list[int] = []

    def measure(_: Settings, task: Task, **__: object) -> None:
        measured.append(len(task.classes))

    monkeypatch.setattr(expected, "measure_pace", measure)
    monkeypatch.setattr(
        expected,
        "expected_time",
        lambda settings, task, _: Expected(len(task.train), 0.1 * len(task.evals[0].clips), reading=False),
    )
    rows = reproduce.plan("hmdb51")
    setup = reproduce.Setup(tmp_path, "my data", (1, 2), ["data.frames=8"])
    text = reproduce.describe(rows, setup, device="cpu")
    assert text.count("ga2clip train") == 5
    assert "--root 'my data'" in text
    base, few = 26 * 16, 51 * (2 + 4 + 8 + 16)
    assert f"in all about {duration(2 * (base + few + 5 * 153))} (" in text
    assert "without reading clips" in text
    assert measured == [26, 51]  # not once for each of the five rows
    assert "not prepared" in text
    assert "weights: ViT-B-16, openai" in text
    assert list(tmp_path.iterdir()) == []
    settings = rows[0].settings(setup, 2)
    # The command that is shown, read as the command line reads it.
    shown = next(line for line in text.splitlines() if "ga2clip train" in line).partition("   and ")[0]
    words = shlex.split(shown)[2:]
    assert words == [
        *("--dataset", "hmdb51", "--protocol", "base-to-novel", "--method", "ga2", "--preset", "authors"),
        *("--shots", "16", "--seed", "1", "--out", str(tmp_path / "hmdb51-base-to-novel-16shot-1")),
        *("--root", "my data", "--set=data.frames=8"),
    ]
    root = str(Path("my data").absolute())
    assert (settings.training.seed, settings.data.root, settings.data.frames) == (2, root, 8)
    assert (settings.data.protocol, settings.training.lr) == ("base-to-novel", 0.004)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[reproduce.Result]:
    """Of Kinetics-400 with three seeds, of which the second has every second clip right, and so on."""
    asked: list[jobs.Job] = []

    def run_jobs(wanted: list[jobs.Job], **_: Any) -> list[Measurement]:
        asked.extend(wanted)
        return [_measurement(job.settings.training.seed) for job in wanted]

    monkeypatch.setattr(reproduce, "run_jobs", run_jobs)
    found = reproduce.reproduce(reproduce.plan("kinetics400"), reproduce.Setup(tmp_path), device="cpu")
    assert [job.settings.training.seed for job in asked] == [1, 2, 3]
    assert len({job.folder for job in asked}) == 3
    return found


def _measurement(correct: int) -> Measurement:
    answers = {
        (name, 1, f"{n}.mp4"): ClipAnswer(f"{n}.mp4", "run", 8, (("run" if n < correct else "walk", 1.0),))
        for name in ("base", "novel")
        for n in range(4)
    }
    return Measurement(None, {}, answers)  # type: ignore[arg-type]


def test_ours_stand_beside_theirs_over_seeds(results: list[reproduce.Result]) -> None:
    assert results[0].ours["base"] == pytest.approx((25.0, 50.0, 75.0))
    table = reproduce.table(results)
    base = next(line for line in table.splitlines() if " base " in line)
    assert base.split() == ["base-to-novel", "16", "base", "77.0", "77.00", "50.0", "±", "25.0"]
    assert "the paper's is the best on the test set" in table


def test_the_table_has_the_formats_of_compare(results: list[reproduce.Result]) -> None:
    assert "| base-to-novel | 16 | base | 77.0 | 77.00 | 50.0 ± 25.0 |" in reproduce.table(
        results, "markdown"
    )
    assert r"base-to-novel & 16 & base & 77.0 & 77.00 & 50.0 ± 25.0 \\" in reproduce.table(results, "latex")
    rows = list(csv.DictReader(io.StringIO(reproduce.table(results, "csv"))))
    assert [row["accuracy"] for row in rows] == ["base", "novel", "HM"]
    assert [rows[0][key] for key in ("ours", "std", "seeds")] == ["50.0", "25.0", "3"]
    with pytest.raises(UserError, match="unknown format 'html'"):
        reproduce.table(results, "html")
