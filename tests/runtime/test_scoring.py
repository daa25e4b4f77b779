"""The sigmoid's scoring rule, against SigLIP's formula worked by hand."""

import dataclasses
import math

import numpy as np
import pytest

from ga2clip.predictions import Asked, Failure, Prediction, as_json, rank
from ga2clip.runtime.scoring import NONE_LABEL, Scorer

CLASSES = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]], np.float32)
NEGATIVES = np.array([[0.0, 0.0, 1.0], [0.8, 0.0, 0.6]], np.float32)
SIGLIP = Scorer(("a", "b", "c"), CLASSES, NEGATIVES, scale=110.0, rule="sigmoid", bias=-12.9)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_each_class_has_its_own_probability() -> None:
    video = np.array([[0.1, 0.12, math.sqrt(1 - 0.01 - 0.0144)]])
    expected = [sigmoid(110 * cosine - 12.9) for cosine in (0.1, 0.12, 0.156)]
    got = SIGLIP.probabilities(3 * video)[0]  # of any length
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert got.sum() > 1.5
    alone = dataclasses.replace(SIGLIP, labels=("b",), features=CLASSES[1:2])
    np.testing.assert_allclose(alone.probabilities(video)[0], expected[1:2], rtol=1e-4)


def test_classes_far_above_the_bias_keep_their_order() -> None:
    """float64 rounds the sigmoids of all three to 1."""
    cosines = np.linspace(0.7, 0.9, 40)
    features = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)
    labels = tuple(map(str, range(40)))
    scorer = Scorer(labels, features, np.zeros((0, 2), np.float32), 110.0, rule="sigmoid", bias=-12.9)
    row = scorer.probabilities(np.array([[1.0, 0.0]]))[0]
    assert row.argmax() == 39
    assert [label for label, _ in rank(labels, row, 40)] == [str(index) for index in reversed(range(40))]
    np.testing.assert_allclose(row, 1, atol=1e-13)


def test_extreme_logits_overflow_nowhere() -> None:
    scorer = dataclasses.replace(SIGLIP, scale=1e6, bias=0.0)
    with np.errstate(over="raise", invalid="raise"):
        row = scorer.probabilities(np.array([[1.0, -1.0, 0.0]]))[0]
    np.testing.assert_allclose(row, [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("threshold", [-0.3, 0.0, 0.25])
@pytest.mark.parametrize("rule", ["softmax", "sigmoid"])
def test_none_is_first_exactly_below_the_threshold(rule: str, threshold: float) -> None:
    scorer = dataclasses.replace(SIGLIP, labels=(*SIGLIP.labels, NONE_LABEL), rule=rule, threshold=threshold)
    videos = np.random.default_rng(0).normal(size=(200, 3))
    unit = videos / np.linalg.norm(videos, axis=1, keepdims=True)
    margin = (unit @ CLASSES.T).max(axis=1) - (unit @ NEGATIVES.T).max(axis=1)
    rejected = scorer.probabilities(videos).argmax(axis=1) == 3
    assert 20 < rejected.sum() < 180
    np.testing.assert_array_equal(rejected, margin < threshold)


def test_json_says_where_probabilities_are_no_softmax() -> None:
    asked = Asked.of("0" * 64, ["a"], None, reject=False, top=1)
    answers = [Prediction("a.mp4", 8, 1.0, (("a", 0.7),)), Failure("b.mp4", "b.mp4: damaged")]
    assert "scoring" not in as_json("m", "cpu", answers, asked)
    assert as_json("m", "cpu", answers, asked, "sigmoid")["scoring"] == "sigmoid"
