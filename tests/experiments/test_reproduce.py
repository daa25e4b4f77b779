"""The published tables as data, and ours beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.evaluation.metrics import harmonic_mean, score
from ga2clip.evaluation.report import Report, SetReport
from ga2clip.experiments import reproduce

PUBLISHED = ["hmdb51", "kinetics400", "ssv2", "ucf101"]
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
        settings = row.settings(seed=1)
        method, anchors = settings.method, settings.anchors
        assert (method.preset, method.text_init, method.coupling) == ("authors", "", "mapping")
        assert (anchors.loss, anchors.negatives) == ("published", ("else",))
        assert not anchors.needs_videos
        assert (
            settings.training.lr
            == {"base-to-novel": PUBLISHED_RATES[dataset], "few-shot": 8e-3}[row.protocol]
        )


def test_ssv2_few_shot_batches_are_those_of_the_logs() -> None:
    rows = [row for row in reproduce.plan("ssv2") if row.protocol == "few-shot"]
    batches = {row.shots: row.settings(seed=1).training.batch_size for row in rows}
    assert batches == {2: 32, 4: 64, 8: 128, 16: 64}


def test_a_dataset_without_published_figures_is_refused() -> None:
    with pytest.raises(UserError, match="stickfigures") as caught:
        reproduce.plan("stickfigures")
    assert "ucf101" in (caught.value.hint or "")


def test_the_dry_run_shows_commands_that_mean_the_settings_of_the_run(tmp_path: Path) -> None:
    rows = reproduce.plan("hmdb51")
    text = reproduce.describe(
        rows, tmp_path, root="my data", seeds=(1, 2), overrides=["data.frames=8"], device="cpu"
    )
    assert text.count("ga2clip train") == 5
    assert "--root 'my data'" in text
    assert "in all about" in text
    assert "weights: ViT-B-16, openai" in text
    assert list(tmp_path.iterdir()) == []
    settings = rows[0].settings(2, "my data", ["data.frames=8"])
    root = str(Path("my data").absolute())
    assert (settings.training.seed, settings.data.root, settings.data.frames) == (2, root, 8)
    assert (settings.data.protocol, settings.training.lr) == ("base-to-novel", 0.004)


def test_ours_stand_beside_theirs_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    monkeypatch.setattr(
        reproduce, "train_once", lambda settings, folder, **_: trained.append((settings, folder))
    )
    monkeypatch.setattr(reproduce, "evaluate_run", lambda folder, **_: _report(int(str(folder)[-1])))
    rows = reproduce.plan("kinetics400")
    results = reproduce.reproduce(rows, tmp_path, seeds=(1, 2, 3), device="cpu")
    assert [settings.training.seed for settings, _ in trained] == [1, 2, 3]
    assert len({folder for _, folder in trained}) == 3
    assert results[0].ours["base"] == pytest.approx((25.0, 50.0, 75.0))
    table = reproduce.table(results)
    base = next(line for line in table.splitlines() if " base " in line)
    assert base.split() == ["base-to-novel", "16", "base", "77.0", "77.00", "50.0", "±", "25.0"]
    assert "the paper's is the best on the test set" in table


def _report(correct: int) -> Report:
    ranked = np.array([[0] if index < correct else [1] for index in range(4)])
    scores = score(ranked, np.zeros(4, dtype=np.int64), 2)
    sets: Any = tuple(SetReport(name, ("a", "b"), scores) for name in ("base", "novel"))
    return Report("base-to-novel", "", sets)
