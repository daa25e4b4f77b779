"""Logistic regression from the texts against SciPy, and how it tells taught classes apart."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.probe import moved_rows
from ga2clip.runtime.scoring import Scorer, normalise
from ga2clip.runtime.taught_calibration import chosen_probe
from ga2clip.runtime.teaching import Example, Examples, Head

NAMES, WIDTH, SCALE = ("jumping", "running", "sitting", "waving", "sleeping", "hopping"), 12, 25.0


def unit(count: int, seed: int) -> np.ndarray:
    return normalise(np.random.default_rng(seed).normal(size=(count, WIDTH)))


TEXTS, VIDEOS = unit(len(NAMES), 1), unit(9, 2)


def clips(labels: np.ndarray, seed: int = 3) -> np.ndarray:
    """Clips whose centre lies away from the texts', as in CLIP."""
    noise = 0.4 * np.random.default_rng(seed).normal(size=(len(labels), WIDTH))
    return normalise(TEXTS[labels] + unit(1, 9) + noise)


def head(labels: np.ndarray, video: np.ndarray | None = None, **changed: object) -> Head:
    items = [Example(NAMES[label], "class", f"{row:064x}") for row, label in enumerate(labels)]
    examples = Examples.sorted(items, clips(labels) if video is None else video)
    return replace(Head(NAMES, TEXTS, examples, len(NAMES), SCALE, None), **changed)  # type: ignore[arg-type]


FOUR = np.repeat([0, 1, 3, 4], 6)
OTHERS = [2, 5]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_rows_are_where_scipy_finds_the_loss_lowest(count: int) -> None:
    labels = np.repeat(np.arange(len(NAMES)), count)
    video = clips(labels).astype(np.float64)

    def loss(flat: np.ndarray) -> float:
        rows = flat.reshape(TEXTS.shape)
        likely = softmax(SCALE * video @ (TEXTS + rows).T)[np.arange(len(labels)), labels]
        return float(-np.log(likely).sum() + (1 + 2 / count) * SCALE / 2 * (rows**2).sum())

    found = moved_rows(video, labels, TEXTS, SCALE)
    best = minimize(loss, found.ravel(), method="BFGS")
    assert loss(found.ravel()) <= best.fun + 0.02
    assert pytest.approx(SCALE * VIDEOS @ best.x.reshape(found.shape).T, abs=0.3) == SCALE * VIDEOS @ found.T
    assert loss(found.ravel()) < loss(np.zeros(found.size)) - 0.1


def test_examples_tell_taught_classes_apart_and_others_keep_their_videos() -> None:
    """Against the definition, with the regression and the Gaussian classes of a head that knows the four alone."""
    own = [0, 1, 3, 4]
    taught = head(FOUR, share=0.3, probe=0.25)
    before = taught.rows(NAMES, TEXTS).scores(VIDEOS)
    after = taught.question(NAMES, TEXTS, TEXTS[:0]).of_classes(VIDEOS)
    alone = Head(tuple(NAMES[c] for c in own), TEXTS[own], taught.examples, 4, SCALE, None)
    moved = moved_rows(clips(FOUR), np.repeat(np.arange(4), 6), TEXTS[own], SCALE)
    which = (
        0.75 * alone.rows(alone.classes, alone.texts).scores(VIDEOS) + 0.25 * VIDEOS @ (TEXTS[own] + moved).T
    )
    assert after[:, own] - after[:, :1] == pytest.approx(which - which[:, :1], abs=1e-5)
    assert after[:, own].max(axis=1) == pytest.approx(before[:, own].max(axis=1), abs=1e-9)
    assert (after[:, OTHERS] == before[:, OTHERS]).all()
    assert (after[:, own].argmax(axis=1) != before[:, own].argmax(axis=1)).any()


def test_one_taught_class_is_told_apart_from_no_other() -> None:
    taught = head(FOUR, probe=0.5)
    one = ["running", "sitting", "hopping"]
    for names in (one, one[1:]):
        texts = TEXTS[[NAMES.index(name) for name in names]]
        scores = taught.question(names, texts, TEXTS[:0]).of_classes(VIDEOS)
        assert (scores == taught.rows(names, texts).scores(VIDEOS)).all()


def test_without_a_weight_the_scores_are_those_of_the_gaussian_classes() -> None:
    """As in bundles that were taught before there was one, and where the model was tuned on the examples."""
    scores = head(FOUR).question(NAMES, TEXTS, TEXTS[:0]).of_classes(VIDEOS)
    assert (scores == head(FOUR).rows(NAMES, TEXTS).scores(VIDEOS)).all()
    assert chosen_probe(head(FOUR, unseen=6)) == 0
    assert chosen_probe(head(FOUR[:6])) == 0  # one class


def test_held_out_examples_choose_the_weight() -> None:
    """The regression, where a class lies in several places; the Gaussian classes, where each lies in one."""
    assert chosen_probe(head(np.arange(6))) == 0.25  # nothing can be held out
    labels = np.repeat(np.arange(6), 12)
    spread = 0.15 * np.random.default_rng(5).normal(size=(72, WIDTH))
    side = np.where(np.arange(72) % 2 == 0, 1.0, -1.0)[:, None]
    seldom = np.where(np.arange(72) % 4 == 0, -2.0, 1.0)[:, None]
    one_place = normalise(TEXTS[labels] + unit(1, 9) + spread)
    several = normalise(seldom * TEXTS[labels] + side * unit(1, 10) + spread)
    assert [chosen_probe(head(labels, video)) for video in (one_place, several)] == [0.25, 0.75]


def test_the_explained_row_adds_up_to_the_score() -> None:
    """Row times video and a constant; the row is the gradient of the score."""
    question = head(FOUR, share=0.3, probe=0.5).question(NAMES, TEXTS, TEXTS[:0])
    scorer = Scorer(NAMES, TEXTS, TEXTS[:0], SCALE, taught=question)
    assert scorer.taught is not None
    step = 1e-3
    for video in VIDEOS[:3]:
        rows = scorer.rows(video, range(len(NAMES)))
        for axis in range(WIDTH):
            ahead, back = (video + sign * step * np.eye(WIDTH, dtype=np.float32)[axis] for sign in (1, -1))
            slope = (scorer.taught.of_classes(ahead[None]) - scorer.taught.of_classes(back[None])) / (
                2 * step
            )
            assert rows[:, axis] == pytest.approx(slope[0], abs=5e-3)
