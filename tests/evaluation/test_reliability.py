"""Expected calibration error, Brier score and the plot, against hand-worked tables, twins and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ga2clip.evaluation.reliability import Reliability, draw_reliability
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
    fair, sharp = (Reliability.of(*drawn(4000, 5, sure=sure)) for sure in (1.0, 3.0))
    assert fair.ece < 0.03 < 0.1 < sharp.ece
    assert fair.brier < sharp.brier


def test_intervals_hold_the_value_and_narrow_with_clips() -> None:
    widths = []
    for clips in (100, 1600):
        found = Reliability.of(*drawn(clips, 5, sure=2.0))
        for value, (low, high) in zip((found.ece, found.brier), found.intervals, strict=True):
            assert low <= value <= high
        widths.append([high - low for low, high in found.intervals])
    # A quarter as wide with sixteen times the clips.
    assert widths[0][1] / widths[1][1] == pytest.approx(4, rel=0.3)


def test_nothing_to_measure_is_no_number() -> None:
    found = Reliability.of(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert np.isnan([found.ece, found.brier, *found.intervals[0]]).all()


def test_the_plot_shows_every_curve(tmp_path: Path) -> None:
    curves = {
        "before": Reliability.of(*drawn(300, 5, sure=3.0)),
        "after": Reliability.of(*drawn(300, 5, sure=1.0)),
    }
    draw_reliability({"base": curves, "novel": curves}, tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two
        assert (np.abs(pixels.astype(int) - colour).max(axis=1) < 8).sum() > 200
