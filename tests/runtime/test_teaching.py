"""The rule that learns classes from examples, against scikit-learn, hand-worked cases and the zero-shot cosines."""

from dataclasses import replace

import numpy as np
import pytest

from ga2clip.runtime.doubts import alike_classes
from ga2clip.runtime.scoring import NONE_LABEL, Scorer, normalise
from ga2clip.runtime.teaching import Example, Examples, Head

NAMES = ("jumping", "running", "sitting", "waving", "sleeping")
WIDTH = 8


def unit(count: int, seed: int) -> np.ndarray:
    return normalise(np.random.default_rng(seed).normal(size=(count, WIDTH)))


TEXTS, VIDEOS = unit(len(NAMES), 1), unit(7, 2)


def made(labels: list[str], features: np.ndarray, kinds: list[str] | None = None) -> Examples:
    items = [
        Example(label, kind, f"{index:064x}")  # type: ignore[arg-type]
        for index, (label, kind) in enumerate(zip(labels, kinds or ["class"] * len(labels), strict=True))
    ]
    return Examples.sorted(items, features.astype(np.float32))


def head(examples: Examples, **changed: object) -> Head:
    return replace(Head(NAMES, TEXTS, examples, len(NAMES), 20.0, None), **changed)  # type: ignore[arg-type]


def around(labels: list[str], spread: float = 0.3, seed: int = 0) -> np.ndarray:
    """Clips whose centre lies away from the texts', as in CLIP."""
    rows = TEXTS[[NAMES.index(label) for label in labels]] + unit(1, 9)
    return normalise(rows + spread * np.random.default_rng(seed).normal(size=rows.shape))


def test_without_examples_of_classes_scores_are_the_zero_shot_cosines() -> None:
    """Also for new names, so that scale, softmax, sigmoid and threshold mean what they did."""
    taught = head(made([NONE_LABEL], unit(1, 3), ["none"]))
    new = unit(3, 4)
    assert taught.rows(["a", "b", "c"], new).scores(VIDEOS) == pytest.approx(VIDEOS @ new.T, abs=1e-6)
    assert taught.rows(NAMES, TEXTS).scores(VIDEOS) == pytest.approx(VIDEOS @ TEXTS.T, abs=1e-6)


def test_one_clip_in_the_place_of_zero_shot_changes_nothing() -> None:
    """A clip exactly where its text predicts it has nothing to teach but the set-back."""
    spot = 0.5 * TEXTS.astype(np.float64)
    taught = head(made(["jumping"], spot[:1]))
    assert taught._fit.setback == pytest.approx(0, abs=1e-9)
    assert taught.rows(NAMES, TEXTS).scores(VIDEOS) == pytest.approx(VIDEOS @ TEXTS.T, abs=1e-6)


def test_many_examples_are_linear_discriminant_analysis() -> None:
    """With many clips of every class the text prior and the shrinkage fade, and scikit-learn's LDA remains."""
    discriminant_analysis = pytest.importorskip("sklearn.discriminant_analysis")
    labels = [name for name in NAMES for _ in range(4000)]
    features = around(labels)
    lda = discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(5, 0.2))
    lda.fit(features.astype(np.float64), labels)
    ours = head(made(labels, features)).rows(NAMES, TEXTS).scores(VIDEOS)
    theirs = lda.decision_function(VIDEOS)[:, [sorted(NAMES).index(name) for name in NAMES]]
    ours, theirs = ours - ours[:, :1], theirs - theirs[:, :1]
    factor = (ours * theirs).sum() / (theirs * theirs).sum()
    assert ours == pytest.approx(factor * theirs, abs=0.02 * np.abs(ours).max())


def test_the_formula_against_plain_numpy() -> None:
    """Four clips of two of five classes, worked out again from the definitions in the module's docstring."""
    labels = ["jumping", "jumping", "jumping", "waving"]
    features = around(labels).astype(np.float64)
    t, mean, kappa = TEXTS - TEXTS.mean(0), TEXTS.mean(0), 4
    x = {0: features[:3], 3: features[3:]}
    w = {c: len(rows) / (len(rows) + kappa) for c, rows in x.items()}
    blocks = [np.sqrt(w[c]) * np.column_stack([np.eye(WIDTH), t[c]]) for c in x]
    right = [np.sqrt(w[c]) * rows.mean(0) for c, rows in x.items()]
    blocks.append(np.column_stack([np.eye(WIDTH), -mean]))
    right.append(np.zeros(WIDTH))
    *mu, a = np.linalg.lstsq(np.concatenate(blocks), np.concatenate(right), rcond=None)[0]
    u = t.astype(np.float64)
    for c, rows in x.items():
        u[c] = (kappa * t[c] + ((rows - mu) / a).sum(0)) / (kappa + len(rows))
    left = np.concatenate([rows - mu - a * u[c] for c, rows in x.items()])
    s = left.T @ left / 4
    tau = np.trace(s) / WIDTH
    weight = 2 / 5 * 4 / (4 + WIDTH)
    untaught = [1, 2, 4]
    kept = np.linalg.pinv(t[untaught]) @ t[untaught]  # the projection on what they differ by
    others = np.eye(WIDTH) - kept
    sigma = (1 - weight) * tau * np.eye(WIDTH) + weight * (others @ s @ others + tau * kept)
    p = tau * np.linalg.inv(sigma)
    delta = np.array(mu) - a * mean
    u[untaught] -= delta / (2 * a)
    counts = np.array([3, 0, 0, 1, 0])
    expected = (
        VIDEOS @ (u @ p + mean).T
        - u @ p @ mu
        + a / 2 * (1 - mean @ mean - np.einsum("cd,de,ce->c", u, p, u))
        - np.trace(s) / (2 * a * kappa) * np.sqrt(counts / (counts + kappa))
        + (counts == 0) * (delta @ p @ delta) / (8 * a)
    )
    ours = head(made(labels, features)).rows(NAMES, TEXTS)
    assert ours.scores(VIDEOS) == pytest.approx(expected, abs=1e-5)


def test_what_was_noise_to_the_examples_still_tells_other_names_apart() -> None:
    """Clips of two things, each with a lot of one verb or of the other, and the verbs asked for.

    Without protection of what the asked names differ by, the verb would be whitened away as noise.
    """
    things, verbs = unit(2, 21), unit(2, 22)
    rng = np.random.default_rng(23)

    def clips(kind: np.ndarray, count: int) -> np.ndarray:
        noise = 0.1 * rng.normal(size=(count, WIDTH))
        return np.stack([*kind]).astype(np.float32) + noise.astype(np.float32)

    shown = np.concatenate([clips(thing + verbs[np.arange(40) % 2], 40) for thing in things])
    shown /= np.linalg.norm(shown, axis=1, keepdims=True)
    labels = ["a thing"] * 40 + ["another thing"] * 40
    examples = Examples.sorted(
        [Example(label, "class", f"{row:064x}") for row, label in enumerate(labels)], shown
    )
    taught = Head(("a thing", "another thing"), things, examples, 2, 20.0, None)
    asked = clips(things.mean(axis=0) + verbs[np.arange(60) % 2], 60)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    answers = taught.rows(["one way", "another way"], verbs).scores(asked).argmax(axis=1)
    assert (answers == np.arange(60) % 2).mean() > 0.95
    question = [*labels[::40], "one way", "another way"]
    texts = np.concatenate([things, verbs])
    rows = taught.rows(question, texts).rows.astype(np.float64)
    between = rows[2] - rows[3]  # as the texts themselves have it, so nothing was whitened away
    assert between @ (verbs[0] - verbs[1]) == pytest.approx(((verbs[0] - verbs[1]) ** 2).sum(), rel=1e-4)


def test_examples_win_where_the_text_says_nothing() -> None:
    """A class whose text is another's: its clips tell it apart."""
    texts = TEXTS.copy()
    texts[1] = texts[0]
    labels = [name for name in NAMES for _ in range(5)]
    rows = head(made(labels, around(labels)), texts=texts).rows(NAMES, texts)
    fresh = around(labels, seed=5)
    assert np.mean(rows.scores(fresh).argmax(1) == [NAMES.index(label) for label in labels]) > 0.9


def test_classes_are_found_by_what_the_tokenizer_reads() -> None:
    taught = head(made(["jumping"], around(["jumping"])))
    same = taught.rows(["  JUMPING "], TEXTS[:1]), taught.rows(["jumping"], TEXTS[:1])
    assert (same[0].rows == same[1].rows).all()
    assert not np.allclose(taught.rows(["hopping"], TEXTS[:1]).rows, same[0].rows)


def test_not_this_class_hands_its_share_to_the_others() -> None:
    """Where clip and counterexample are as near, the class has half of what it had; far away it loses nothing."""
    counter = around(["jumping"], seed=3)
    taught = head(made(["jumping"], counter, ["not"]))
    scorer = Scorer(NAMES, TEXTS, np.zeros((0, WIDTH)), 20.0, taught=taught.question(NAMES, TEXTS, TEXTS[:0]))
    plain = np.exp(20.0 * (counter @ TEXTS.T).astype(np.float64))
    question = taught.question(NAMES, TEXTS, TEXTS[:0])
    against = np.exp(20.0 * question.counterparts.scores(counter))
    plain[:, 0] *= plain[:, 0] / (plain[:, 0] + against[:, 0])
    assert scorer.probabilities(counter) == pytest.approx(plain / plain.sum(), abs=1e-5)
    assert against[0, 0] > np.exp(20.0 * float(counter[0] @ TEXTS[0]))


def test_none_of_these_is_one_more_negative() -> None:
    clips = unit(6, 11)
    taught = head(made([NONE_LABEL] * 6, clips, ["none"] * 6))
    assert taught.threshold == 0.0
    assert head(taught.examples, threshold_before=0.1).threshold == 0.0
    assert head(taught.examples, threshold_before=0.1, fitted_threshold=0.2).threshold == 0.2
    question = taught.question(NAMES, TEXTS, TEXTS[:0])
    scorer = Scorer((*NAMES, NONE_LABEL), TEXTS, TEXTS[:0], 20.0, 0.0, taught=question)
    before = Scorer((*NAMES, NONE_LABEL), TEXTS, normalise(TEXTS.mean(0)[None]), 20.0, 0.0)
    assert scorer.probabilities(clips)[:, -1].mean() > before.probabilities(clips)[:, -1].mean()


def test_the_order_of_teaching_has_no_influence() -> None:
    labels = ["waving", "jumping", "waving"]
    examples = made(labels, unit(3, 5))
    parts = [examples.keep(e.label == name for e in examples.items) for name in ("waving", "jumping")]
    for joined in (parts[0] + parts[1], parts[1] + parts[0]):
        assert joined.items == examples.items
        assert joined.sha256() == examples.sha256()


def test_classes_that_examples_tell_apart_are_not_alike() -> None:
    alike = np.stack([TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[1]])
    assert alike_classes(["a", "b", "c", "d"], alike) == [("a", "c"), ("b", "d")]
    assert alike_classes(["a", "b", "c", "d"], alike, {"c"}) == [("b", "d")]
    assert alike_classes(list(NAMES), TEXTS) == []
