"""Metrics against scikit-learn, and what it has no word for: unreadable clips, classes without clips."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    top_k_accuracy_score,
)

from ga2clip.evaluation.metrics import BROKEN, harmonic_mean, rank_classes, score


@pytest.mark.parametrize("classes", [3, 7, 20])
def test_scores_agree_with_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 200)])
    probabilities = rng.dirichlet(np.ones(classes), len(labels)).astype(np.float32)
    probabilities[np.arange(100), labels[:100]] += 0.3
    scores = score(rank_classes(probabilities), labels, classes)
    answers = probabilities.argmax(axis=1)
    assert scores.n == len(labels)
    assert scores.top1 == pytest.approx(accuracy_score(labels, answers))
    assert scores.mean_class == pytest.approx(balanced_accuracy_score(labels, answers))
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(labels, answers))
    if classes > 5:
        assert scores.top5 == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    else:
        assert scores.top5 == 1.0


def test_unreadable_clips_are_wrong_and_confuse_nothing() -> None:
    ranked = np.array([[0, 1], [BROKEN, BROKEN], [1, 0]])
    scores = score(ranked, np.array([0, 0, 1]), 2)
    assert scores.top1 == pytest.approx(2 / 3)
    assert scores.top5 == pytest.approx(2 / 3)
    assert scores.counts.tolist() == [2, 1]
    assert scores.confusion.tolist() == [[1, 0], [0, 1]]


def test_classes_without_clips_do_not_count_in_the_class_mean() -> None:
    scores = score(np.array([[0], [0]]), np.array([0, 2]), 3)
    assert scores.mean_class == pytest.approx(0.5)
    assert np.isnan(scores.per_class[1])


def test_harmonic_mean() -> None:
    assert harmonic_mean([0.968, 0.752]) == pytest.approx(0.846, abs=1e-3)  # the published UCF-101 row
    assert harmonic_mean([0.5, 0.0]) == 0.0


def test_equal_probabilities_rank_by_class_order() -> None:
    ranked = rank_classes(np.full((2, 4), 0.25, dtype=np.float32))
    assert ranked.tolist() == [[0, 1, 2, 3]] * 2
