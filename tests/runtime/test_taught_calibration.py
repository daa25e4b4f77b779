"""Probabilities of taught models: what is held out, sets against their binomial interval, thresholds, refusals."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import ga2clip
from ga2clip.errors import UserError
from ga2clip.runtime import NONE_LABEL, Predictor, open_bundle, taught_calibration
from ga2clip.runtime.calibration import Coverage, MultiLabel, softmax
from ga2clip.runtime.fit_calibration import Sets, fit_sigmoid
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.taught_calibration import (
    HeldOut,
    TaughtProbabilities,
    chosen_share,
    fitted_scale,
    lacking_for_threshold,
)
from ga2clip.runtime.teaching import Example, Examples, Head, Kind
from ga2clip.video import write_video
from ga2clip_cli.app import app

WIDTH, NAMES = 16, tuple("abcdefghij")
NONE = np.zeros((0, WIDTH), np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return normalise(np.asarray(rows))


TEXTS = unit(np.random.default_rng(1).normal(size=(len(NAMES), WIDTH)))
SPOTS = unit(TEXTS + np.random.default_rng(2).normal(size=WIDTH) / 2)


def drawn(count: int, seed: int, spread: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """`count` clips of every class, and their classes."""
    labels = np.repeat(np.arange(len(NAMES)), count)
    noise = spread * np.random.default_rng(seed).normal(size=(len(labels), WIDTH))
    return unit(SPOTS[labels] + noise), labels


def taught(video: np.ndarray, labels: np.ndarray, none: np.ndarray = NONE, **changed: object) -> Head:
    items = [Example(NAMES[label], "class", f"{row:064x}") for row, label in enumerate(labels)]
    items += [Example(NONE_LABEL, "none", f"{row:064x}") for row in range(len(none))]
    examples = Examples.sorted(items, np.concatenate([video, none]).astype(np.float32))
    whole = {"own": len(NAMES), "scale_before": 20.0, "threshold_before": None, **changed}
    return Head(NAMES, TEXTS, examples, **whole)  # type: ignore[arg-type]


def asked(head: Head, video: np.ndarray) -> np.ndarray:
    """Scores of all classes."""
    return head.question(NAMES, TEXTS, NONE).of_classes(video)


def test_every_example_is_scored_by_the_others_alone() -> None:
    """Up to 16 examples one by one: their scores are those of a model that was never shown them."""
    video, labels = drawn(1, 3)
    none = unit(np.random.default_rng(4).normal(size=(5, WIDTH)))
    head, negatives = taught(video, labels, none), TEXTS[:1]
    held = HeldOut.of(head, negatives)
    assert held.labels.tolist() == labels.tolist()
    for row in range(10):
        rest = np.arange(10) != row
        kept = np.arange(5) != row  # example `row` of both kinds is out in the same turn
        other = taught(video[rest], labels[rest], none[kept])
        question = other.question(NAMES, TEXTS, negatives)
        scores = question.of_classes(head.examples.features[row : row + 1])[0]
        assert held.scores[row] == pytest.approx(scores, abs=1e-6)
        against = question.negatives.scores(head.examples.features[row : row + 1])
        assert held.margins[row] == pytest.approx(scores.max() - against.max(), abs=1e-6)
    assert len(held.none) == 5


def test_the_scale_makes_held_out_examples_probable() -> None:
    """Clear clips raise it, clips without rhyme or reason lower it, one clip says nothing."""

    def scale(head: Head) -> float:
        return fitted_scale(head, HeldOut.of(head, NONE))

    clear, labels = drawn(4, 5, 0.01)
    assert scale(taught(clear, labels, scale_before=2.0)) == 8
    assert scale(taught(unit(np.random.default_rng(6).normal(size=(40, WIDTH))), labels)) < 20
    assert scale(taught(clear[:1], labels[:1])) == 20


def test_the_share_of_the_rule_is_what_classes_without_examples_can_bear(monkeypatch) -> None:
    """It rises while clips of classes that are held out gain more than they lose; the largest of equals is taken."""
    labels = np.repeat(np.arange(10), 4)
    video = unit(TEXTS[labels] + 0.02 * np.random.default_rng(20).normal(size=(40, WIDTH)))
    some = labels < 5
    right, own = (video[some] @ TEXTS.T).astype(np.float64), labels[some]
    rows = np.arange(len(own))
    wrong = rows % 4 == 0  # one clip of each class, which the smallest share mends

    def share(lost_at: float, *, clips: int) -> float:
        """Where some other clips, of different classes, are lost to class 9 from this share on."""
        plain = right.copy()
        plain[wrong, own[wrong]] = plain[wrong, 9] - 0.01
        strange, alone = plain.copy(), plain.copy()
        strange[wrong, own[wrong]] += 8.0
        lost = np.flatnonzero(rows % 4 == 1)[:clips]
        strange[lost, 9] += ((plain[rows, own] - plain[:, 9]) / lost_at)[lost]
        alone[rows, own] += 8.0
        parts = iter((alone, strange))
        monkeypatch.setattr(taught_calibration, "_scores_without", lambda *_: next(parts))
        head = taught(video[some], own)
        features = Examples(
            head.examples.items, plain.astype(np.float32)
        )  # whose cosines with these texts they are
        return chosen_share(replace(head, examples=features, texts=np.eye(10, dtype=np.float32)))

    assert share(0.55, clips=5) == pytest.approx(0.5)
    assert share(0.35, clips=5) == pytest.approx(0.3)
    assert share(1.5, clips=5) == 1.0
    assert share(0.02, clips=5) == pytest.approx(0.08)
    assert share(0.35, clips=1) == 1.0  # five are gained
    monkeypatch.undo()
    assert chosen_share(taught(video[some], own, unseen=10)) == 1.0
    assert (
        chosen_share(taught(video[labels == 0], labels[labels == 0])) == 0.4
    )  # what it costs can't be asked
    assert chosen_share(taught(video, labels)) == 1.0  # no class is without examples
    assert chosen_share(taught(video[::4], labels[::4])) == 1.0
    shifted = unit(video + SPOTS.mean(axis=0) - TEXTS.mean(axis=0))
    one = some & (np.arange(40) % 4 == 0)
    assert chosen_share(taught(shifted[one], labels[one])) <= 0.2
    assert chosen_share(taught(video[some], own)) == 0.08  # 0.4/5: nothing shows that the others gain
    assert chosen_share(taught(video[labels < 9], labels[labels < 9])) == pytest.approx(0.4 / 9 * 5 / 9)


@pytest.mark.parametrize(
    ("gained", "share", "keeps"),
    [
        ([0.5, 0.5, 0.0, 0.0], 1.0, True),  # 1 - 0.1 ≥ 4 · 0.25/2
        ([0.1, 0.05, 0.0, 0.0], 1.0, False),  # 0.15 - 0.1 < 4 · 0.0375/2
        ([0.1, 0.05, 0.0, 0.0], 0.5, True),
        ([0.0, 0.0, 0.0, 0.0], 0.1, False),
    ],
)
def test_what_counts_as_kept_by_hand(gained: list[float], share: float, keeps: bool) -> None:
    assert taught_calibration._keeps(np.array(gained), np.array([0, 0, 1, 1]), share) is keeps


@pytest.mark.parametrize(("pairs", "keeps"), [(2, True), (4, True), (5, False)])
def test_many_taught_classes_need_surer_signs(pairs: int, keeps: bool) -> None:
    """Half of n classes gain 1.31, half lose 0.69: 0.31 in the mean, with a standard error of 1/√(n-1).

    Of 4 classes half of it counts (0.29), of 8 four fifths (0.302), of 10 all (0.33).
    """
    gained = np.repeat(np.tile([1.31, -0.69], pairs), 16)
    assert taught_calibration._keeps(gained, np.repeat(np.arange(2 * pairs), 16), 1.0) is keeps


def test_teaching_some_classes_hardly_costs_the_others() -> None:
    """Clips of a class lie in one of two places, which its text does not say."""
    labels = np.repeat(np.arange(10), 8)
    noise = 0.12 * np.random.default_rng(31).normal(size=(80, WIDTH))
    places = np.linalg.qr(np.concatenate([TEXTS, np.eye(WIDTH)]).T)[0][:, 10:12].T
    video = unit(TEXTS[labels] + places[labels % 2] + noise)
    some = labels < 6
    head = taught(video[some], labels[some])
    scores = asked(replace(head, share=chosen_share(head)), video[~some])
    before = (video[~some] @ TEXTS.T).argmax(axis=1) == labels[~some]
    assert (scores.argmax(axis=1) == labels[~some]).mean() >= before.mean() - 0.01


def test_scores_are_the_rule_and_the_cosines_in_the_chosen_share() -> None:
    video, labels = drawn(2, 22)
    fresh = drawn(1, 23)[0]
    scores = [taught(video, labels, share=share).rows(NAMES, TEXTS).scores(fresh) for share in (0.3, 1.0)]
    assert scores[0] == pytest.approx(0.3 * scores[1] + 0.7 * fresh @ TEXTS.T, abs=1e-6)


def test_sets_hold_the_truth_as_often_as_they_say() -> None:
    """On 4,000 fresh clips, within the 99.9 % interval of the beta-binomial that split conformal sets follow."""
    video, labels = drawn(20, 7)
    head = taught(video, labels)
    fitted = TaughtProbabilities.fit(head, NONE, "softmax")
    assert fitted.calibration is not None
    assert fitted.calibration.clips == 200
    fresh, truth = drawn(400, 8)
    likely = softmax(fitted.scale * asked(fitted.applied_to(head), fresh))
    sets = Sets.of(likely, truth, np.array(fitted.calibration.tuned.misses))
    place = int(np.ceil(201 * 0.9))
    low, high = stats.betabinom(4000, place, 201 - place).ppf([0.0005, 0.9995])
    assert low <= sets.covered.sum() <= high
    assert 1 < sets.sizes.mean() < 5


def test_fitted_thresholds_find_more_than_a_half_for_all() -> None:
    """Ten classes, one right: scores are small. Classes with five clips get a threshold, the others a common one."""
    video, labels = drawn(6, 9)
    few = np.flatnonzero((labels > 0) | (np.arange(len(labels)) < 3))  # three clips of the first class
    head = taught(video[few], labels[few])
    fitted = TaughtProbabilities.fit(head, NONE, "softmax")
    card = fitted.calibration
    assert card is not None
    assert sorted(card.thresholds) == list(NAMES[1:])
    fresh, truth = drawn(100, 10)
    logits = fitted.scale * asked(fitted.applied_to(head), fresh)
    alone = 1 / (1 + np.exp(-(card.tuned.slope * logits + card.tuned.offset)))
    shows = np.eye(10, dtype=bool)[truth]

    def f1(taken: np.ndarray) -> float:
        return float(2 * (taken & shows).sum() / (taken.sum() + shows.sum()))

    cuts = np.array([card.thresholds.get(name, card.usual_threshold) for name in NAMES])
    assert f1(alone >= cuts) > f1(alone >= 0.5) + 0.05
    assert f1(alone >= card.usual_threshold) > f1(alone >= 0.5)


def test_the_sigmoid_is_that_of_scikit_learn() -> None:
    """Without Platt's prior counts it is logistic regression without a penalty; with many clips they fade."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 20000)
    logits = rng.normal(size=(20000, 3)) * 3 + 2 * np.eye(3)[labels]
    theirs = linear_model.LogisticRegression(C=1e9).fit(
        logits.reshape(-1, 1), np.eye(3, dtype=int)[labels].ravel()
    )
    fitted = fit_sigmoid(logits, labels)
    assert fitted is not None
    slope, offset = fitted
    assert fit_sigmoid(-logits, labels) is None  # it would fall with the logit
    assert slope == pytest.approx(theirs.coef_[0, 0], rel=1e-3)
    assert offset == pytest.approx(theirs.intercept_[0], rel=1e-3)


def test_the_threshold_of_none_of_these() -> None:
    """Five clips of none: between the two kinds. None at all: as many clips are kept as before. Else not fitted."""
    video, labels = drawn(3, 12, 0.05)
    away = unit(-SPOTS.mean(axis=0) + 0.05 * np.random.default_rng(13).normal(size=(5, WIDTH)))
    negatives = unit(-SPOTS.mean(axis=0)[None])

    def fit(head: Head) -> TaughtProbabilities:
        return TaughtProbabilities.fit(head, negatives, "softmax")

    rule = fit(taught(video, labels, away, threshold_before=0.9)).reject
    assert rule is not None
    assert (rule.kept, rule.rejected) == (1.0, 1.0)
    assert fit(taught(video, labels, away[:4], threshold_before=0.9)).reject is None
    margins = (video @ TEXTS.T).max(1) - (video @ negatives.T).max(1)
    moved = fit(taught(video, labels, threshold_before=float(np.quantile(margins, 0.4)))).reject
    assert moved is not None
    assert moved.kept == pytest.approx(0.6, abs=0.04)
    new = fit(
        taught(video, labels, threshold_before=5.0, own=1)
    ).reject  # clips of new classes: 95 % are kept
    assert new is not None
    assert new.kept == pytest.approx(0.95, abs=0.04)
    assert fit(taught(video[:19], labels[:19], threshold_before=0.1)).reject is None
    assert fit(taught(video, labels)).reject is None


def test_nothing_is_fitted_to_few_examples_nor_to_a_sigmoid() -> None:
    video, labels = drawn(2, 14)
    assert TaughtProbabilities.fit(taught(video, labels), NONE, "softmax").calibration is not None
    assert TaughtProbabilities.fit(taught(video[:19], labels[:19]), NONE, "softmax").calibration is None
    fitted = TaughtProbabilities.fit(taught(video, labels), NONE, "sigmoid")
    assert (fitted.scale, fitted.calibration) == (20.0, None)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, list[str]]]:
    """Clips of a colour per class, as many as are asked for."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    palette = {"ab": (220, 30, 30), "bab": (30, 200, 40), NONE_LABEL: (120, 120, 120)}

    def make(**counts: int) -> dict[str, list[str]]:
        made: dict[str, list[str]] = {}
        for label, colour in palette.items():
            for number in range(counts.get(label.split()[0], 0)):
                path = folder / f"{label} {number}.mp4"
                if not path.exists():
                    frames = np.clip(np.array(colour) + rng.integers(-60, 60, (4, 16, 16, 3)), 0, 255)
                    write_video(path, frames.astype(np.uint8), 4)
                made.setdefault(label, []).append(str(path))
        return made

    return make


def test_a_taught_bundle_answers_with_sets_and_several_labels(handmade, colours, tmp_path, caplog) -> None:
    """In memory and from disk alike; what is not taught is a guess; forgetting puts it back."""
    shown = colours(ab=10, bab=10, none=5)
    out = ga2clip.teach(handmade, shown, tmp_path / "taught")
    clip = shown["ab"][0]
    with Predictor(handmade, provider="cpu", cache=False) as plain:
        memory = plain.teach(shown)
        with Predictor(out, provider="cpu", cache=False) as disk:
            for choice in (Coverage(0.9), MultiLabel(), MultiLabel(0.01)):
                ours, theirs = (p.predict(clip, ["ab", "bab"], choice=choice) for p in (memory, disk))
                assert ours.chosen == theirs.chosen
                assert dict(ours.predictions) == pytest.approx(dict(theirs.predictions), abs=1e-6)
            assert memory.model.threshold == disk.model.threshold == disk.model.taught.fitted_threshold
            assert "guess" not in caplog.text
            disk.predict(clip, choice=Coverage(0.9))  # "abc" has no examples
            assert "no examples of 1 of the 3 classes (abc): what is chosen is a guess" in caplog.text
            disk.predict(clip, reject=True)
            assert f"(abc): '{NONE_LABEL}' is a guess" in caplog.text
            with pytest.raises(UserError, match=r"0\.99 needs 99 calibration clips, .* has 20") as caught:
                disk.predict(clip, choice=Coverage(0.99))
            assert "ask for 0.95 at most, or teach more" in str(caught.value.hint)
    card = open_bundle(out).card
    assert card.taught is not None
    assert card.taught.calibration is not None
    assert card.calibration is None
    assert "20 examples, held out in turns" in open_bundle(out).describe()
    assert "examples of classes and 5 of none of them" in open_bundle(out).describe()
    back = ga2clip.teach(out, out=tmp_path / "back", forget=["ab", "bab", NONE_LABEL])
    assert open_bundle(back).card == open_bundle(handmade).card


def test_too_few_examples_are_counted_in_the_message(handmade, colours, tmp_path, caplog) -> None:
    out = ga2clip.teach(handmade, colours(ab=2, none=1), tmp_path / "taught")
    clip = colours(ab=1)["ab"][0]
    run = CliRunner()
    for option in ("--multi-label", "--coverage=0.9"):
        result = run.invoke(app, ["predict", clip, "--model", str(out), option])
        assert result.exit_code != 0
        assert "teach at least 20 clips" in str(result.exception.hint)  # type: ignore[union-attr]
    assert "too few examples" in open_bundle(out).describe()
    lacking = "teach 4 clips of 'none of these' and 3 clips of classes"
    assert f"where its examples fit better than any class, a guess until you {lacking}" in (
        open_bundle(out).describe()
    )
    with caplog.at_level(logging.WARNING), Predictor(out, provider="cpu", cache=False) as predictor:
        predictor.predict(clip, reject=True)
    assert f"'{NONE_LABEL}' is a guess: its threshold is not fitted to the examples; {lacking}" in caplog.text


@pytest.mark.parametrize(
    ("kinds", "lacking"),
    [
        (["none"] * 120, "5 clips of classes"),
        (["none"] * 5 + ["class"] * 4 + ["not"] * 9, "1 clip of classes"),
        (["class"] * 19, "5 clips of 'none of these'"),
        (["class", "none"], "4 clips of 'none of these' and 4 clips of classes"),
        (["none", "class"] * 5, ""),
    ],
)
def test_what_a_threshold_lacks_is_what_is_not_there(kinds: list[Kind], lacking: str) -> None:
    assert lacking_for_threshold(kinds) == lacking


def test_many_clips_of_none_of_these_need_some_of_classes(handmade, colours, tmp_path, caplog) -> None:
    out = ga2clip.teach(handmade, colours(none=8), tmp_path / "taught")
    clip = colours(ab=1)["ab"][0]
    with caplog.at_level(logging.WARNING), Predictor(out, provider="cpu", cache=False) as predictor:
        predictor.predict(clip, reject=True)
    assert "not fitted to the examples; teach 5 clips of classes" in caplog.text
    assert "a guess until you teach 5 clips of classes" in open_bundle(out).describe()


def test_a_list_of_thresholds_goes_before_what_was_fitted(handmade, colours, tmp_path) -> None:
    out = ga2clip.teach(handmade, colours(ab=10, bab=10), tmp_path / "taught")
    table = tmp_path / "thresholds.json"
    table.write_text(json.dumps({"ab": 0.0, "bab": 1.0, "abc": 1.0}))
    result = CliRunner().invoke(
        app,
        [
            *("predict", colours(ab=1)["ab"][0], "--model", str(out), "--json"),
            *("--multi-label", "--threshold", str(table)),
        ],
    )
    assert json.loads(result.stdout)["results"][0]["chosen"] == ["ab"]
    assert Path(out / "taught.npz").exists()
