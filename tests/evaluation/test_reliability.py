"""Expected calibration error, Brier score and the plot, against hand-worked tables, twins and scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ga2clip.evaluation import reliability
from ga2clip.evaluation.reliability import Reliability, draw_reliability, filled_bins
from ga2clip.runtime.reliability import brier_score, expected_calibration_error


def drawn(clips: int, classes: int, *, sure: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C), and classes drawn from them; then sharpened: `sure` = 1 is calibrated."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.3), clips)
    labels = np.array([rng.choice(classes, p=row) for row in p])
    sharp = p**sure
    return sharp / sharp.sum(axis=1, keepdims=True), labels


def test_calibration_error_by_hand() -> None:
    """Two bins of 15: |(1 + 0) − (0.65 + 0.66)| and |(1 + 1) − (0.95 + 0.97)|, over four clips."""
    confidence, correct = np.array([0.65, 0.66, 0.95, 0.97]), np.array([True, False, True, True])
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.31 + 0.08) / 4)


def test_a_bin_holds_its_upper_edge() -> None:
    """3/15 is in the third bin, with 0.19: one bin, whose gaps cancel. The fourth would not."""
    confidence, correct = np.array([0.19, 3 / 15]), np.array([True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx((1 - 0.19 - 0.2) / 2)
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0


def test_calibration_error_as_its_twin_says() -> None:
    p, labels = drawn(500, 6, sure=2.0)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    twin = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            twin += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert Reliability.of(p, labels).ece == pytest.approx(twin)


def test_brier_score_by_hand_and_as_scikit_learn_says() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    assert brier_score(np.array([[0.7, 0.2, 0.1]]), np.array([1]))[0] == pytest.approx(0.49 + 0.64 + 0.01)
    p, labels = drawn(200, 2, sure=1.5)
    # scikit-learn's counts one of the two classes.
    assert Reliability.of(p, labels).brier == pytest.approx(2 * metrics.brier_score_loss(labels, p[:, 1]))


def test_an_overconfident_model_is_told_from_a_calibrated_one() -> None:
    """By as much as the sharpened confidence is above the probability that the best class was drawn with."""
    (fair_p, _), (sharp_p, labels) = (drawn(4000, 5, sure=sure) for sure in (1.0, 3.0))
    fair, sharp = Reliability.of(fair_p, labels), Reliability.of(sharp_p, labels)
    assert fair.ece < 0.03
    assert sharp.ece == pytest.approx(float((sharp_p.max(axis=1) - fair_p.max(axis=1)).mean()), abs=0.02)
    # What a drawn class costs: Σ p² - 2 p_drawn + 1, in expectation Σ p² - 2 Σ p p_true + 1.
    expected = ((sharp_p**2).sum(axis=1) - 2 * (sharp_p * fair_p).sum(axis=1) + 1).mean()
    assert sharp.brier == pytest.approx(float(expected), abs=0.02)


@pytest.mark.parametrize("clips", [100, 1600])
def test_intervals_are_those_of_resampled_clips(clips: int) -> None:
    """The mean of scores has a normal interval, 1.96 standard errors wide; that of the error is resampled by hand."""
    found = Reliability.of(*drawn(clips, 5, sure=2.0))
    error, brier = found.intervals
    half = 1.96 * found.briers.std(ddof=1) / np.sqrt(clips)
    assert brier == pytest.approx((found.brier - half, found.brier + half), abs=0.15 * half)
    rng, resampled = np.random.default_rng(7), []
    for _ in range(500):
        rows = rng.integers(clips, size=clips)
        resampled.append(expected_calibration_error(found.confidence[rows], found.correct[rows]))
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert error == pytest.approx((min(low, found.ece), max(high, found.ece)), abs=0.15 * (high - low))


def test_an_error_below_all_resampled_ones_is_the_bound() -> None:
    """200 clips of a calibrated model: resampling adds noise to an error that is nothing but noise."""
    levels = (np.arange(10) + 0.5) / 10
    confidence = np.repeat(levels, 20)
    correct = np.concatenate([np.arange(20) < round(20 * level) for level in levels])
    found = Reliability(confidence, correct, np.zeros(200))
    assert found.ece == pytest.approx(0, abs=1e-9)
    assert found.intervals[0][0] == found.ece
    assert found.intervals[0][1] > 0.02


def test_nothing_to_measure_is_no_number() -> None:
    found = Reliability.of(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert np.isnan([found.ece, found.brier, *found.intervals[0]]).all()


def test_the_plot_shows_every_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {
        "before": Reliability.of(*drawn(300, 5, sure=3.0)),
        "after": Reliability.of(*drawn(300, 5, sure=1.0)),
    }
    draw_reliability({"base": curves, "novel": curves}, tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two
        assert (np.abs(pixels.astype(int) - colour).max(axis=1) < 8).sum() > 200
    figures: list[Any] = []
    monkeypatch.setattr(reliability, "write_figure", lambda _, figure: figures.append(figure))
    draw_reliability({"base": curves}, tmp_path / "plot.png")
    accuracy, counts = figures[0].axes
    for line, found in zip(accuracy.lines[1:], curves.values(), strict=True):
        bins = filled_bins(found.confidence, found.correct)
        np.testing.assert_allclose(line.get_xydata(), [(b.confidence, b.accuracy) for b in bins])
    for stairs, found in zip(counts.patches, curves.values(), strict=True):
        assert stairs.get_data().values.tolist() == np.histogram(found.confidence, 15, (0, 1))[0].tolist()
