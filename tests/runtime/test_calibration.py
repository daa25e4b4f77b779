"""Calibrated probabilities, independent scores, sets of classes, and the warnings about a question."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.calibration import (
    Calibration,
    Coverage,
    MultiLabel,
    quantile,
    read_thresholds,
)
from ga2clip.runtime.calibration_card import CalibrationCard, GroupCalibration
from ga2clip.runtime.card import BundleCard
from ga2clip.runtime.doubts import alike_classes
from ga2clip.runtime.scoring import Scorer, normalise


def group(
    temperature: float,
    *,
    slope: float = 0.5,
    offset: float = -2.0,
    misses: int = 20,
    negatives: float | None = None,
) -> GroupCalibration:
    return GroupCalibration(
        temperature=temperature,
        negative_offset=negatives,
        slope=slope,
        offset=offset,
        misses=tuple(np.arange(1, misses + 1) / (misses + 1)),
        accuracy=0.8,
        ece_before=0.1,
        ece=0.05,
        brier_before=0.3,
        brier=0.25,
        covered=0.9,
        set_size=2.0,
    )


def card(new: GroupCalibration | None, **changes: object) -> CalibrationCard:
    return CalibrationCard(
        **{"fitted_on": "x", "clips": 20, "tuned": group(2.0), "new": new, "reach": 0.5, "thresholds": {}}
        | changes
    )


TUNED = np.float32([[1, 0, 0], [0, 1, 0]])
# The second is as far from the tuned ones as can be, the third lies half as far as a new name.
ASKED = np.float32([[1, 0, 0], [0, 0, 1], [0.75, 0, np.sqrt(1 - 0.75**2)]])
NONE = np.zeros((0, 3), np.float32)


def test_the_temperature_goes_by_the_distance_from_the_tuned_classes() -> None:
    found = Calibration.of(card(group(8.0)), ASKED, TUNED)
    np.testing.assert_allclose(found.newness, [0, 1, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.temperatures, [2, 8, 4], rtol=1e-5)  # the geometric mean between
    assert found.guesses.tolist() == [False, True, True]
    np.testing.assert_allclose(Calibration.of(card(None), ASKED, TUNED).temperatures, 2)


def test_probabilities_as_the_twin_says_in_the_same_order() -> None:
    videos = normalise(np.random.default_rng(0).normal(size=(50, 3)))
    calibration = Calibration.of(card(group(8.0)), ASKED, TUNED)
    plain = Scorer(("a", "b", "c"), ASKED, NONE, 30.0)
    scorer = Scorer(("a", "b", "c"), ASKED, NONE, 30.0, calibration=calibration)
    logits = 30.0 * (videos @ ASKED.T).astype(np.float64)
    twin = np.exp(logits / np.array([2, 8, 4])[logits.argmax(axis=1)][:, None])
    found = scorer.probabilities(videos)
    np.testing.assert_allclose(found, twin / twin.sum(axis=1, keepdims=True), rtol=1e-4)
    assert (found.argsort(axis=1) == plain.probabilities(videos).argsort(axis=1)).all()


def test_none_of_these_is_the_answer_below_the_threshold_whatever_the_temperature() -> None:
    videos = normalise(np.random.default_rng(1).normal(size=(80, 3)))
    negatives = np.float32([[0, -1, 0]])
    labels = ("a", "b", "c", "none of these")
    calibration = Calibration.of(card(group(8.0)), ASKED, TUNED)
    answers = [
        Scorer(labels, ASKED, negatives, 30.0, 0.3, calibration=c).probabilities(videos).argmax(axis=1)
        for c in (None, calibration)
    ]
    assert (answers[0] == answers[1]).all()
    assert 0 < (answers[0] == 3).sum() < 80


NEGATIVES = np.float32([[0, -1, 0], [0.6, 0, 0.8]])


def with_negatives(tuned: float = 2.0, new: float = 8.0) -> CalibrationCard:
    return card(group(new, negatives=3.0), tuned=group(tuned, negatives=-1.0))


def test_negative_prompts_take_part_and_what_they_get_is_shared() -> None:
    """By a twin that writes out the sum for every video."""
    videos = normalise(np.random.default_rng(0).normal(size=(50, 3)))
    calibration = Calibration.of(with_negatives(), ASKED, TUNED)
    found = Scorer(("a", "b", "c"), ASKED, NEGATIVES, 30.0, calibration=calibration).probabilities(videos)
    for row, video in zip(found, videos.astype(np.float64), strict=True):
        best = (ASKED @ video).argmax()
        temperature, offset = [(2, -1), (8, 3), (4, 1)][best]  # "c" lies half as far as a new name
        own = np.exp(30 * ASKED @ video / temperature)
        against = np.exp((30 * NEGATIVES @ video + offset) / temperature)
        twin = (own + against.sum() / 3) / (own.sum() + against.sum())
        np.testing.assert_allclose(row, twin, rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_the_ranking_stays_also_where_rounding_makes_classes_equal() -> None:
    """At a temperature of 0.05 most of the 60 classes have nothing but their share of what the negatives get."""
    rng = np.random.default_rng(2)
    features, negatives, videos = (normalise(rng.normal(size=(n, 8))) for n in (60, 3, 40))
    names = tuple(map(str, range(60)))
    calibration = Calibration.of(with_negatives(0.05, 0.05), features, features[:2])
    plain = Scorer(names, features, negatives, 30.0)
    found = replace(plain, calibration=calibration).probabilities(videos)
    assert (np.diff(np.sort(found)) > 0).all()
    assert (found.argsort(axis=1) == plain.scores(videos).argsort(axis=1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found > 0).all()


def test_negative_prompts_that_are_the_answer_none_of_these_do_not_take_part_twice() -> None:
    videos = normalise(np.random.default_rng(1).normal(size=(80, 3)))
    labels = ("a", "b", "c", "none of these")
    without, taking_part = (
        Scorer(labels, ASKED, NEGATIVES, 30.0, 0.3, calibration=Calibration.of(c, ASKED, TUNED))
        for c in (card(group(8.0)), with_negatives())
    )
    np.testing.assert_array_equal(taking_part.probabilities(videos), without.probabilities(videos))


def test_negative_prompts_take_no_part_in_sets() -> None:
    videos = normalise(np.random.default_rng(1).normal(size=(80, 3)))
    without, taking_part = (
        Scorer(
            ("a", "b", "c"),
            ASKED,
            NEGATIVES,
            3.0,
            calibration=Calibration.of(c, ASKED, TUNED),
            choice=Coverage(0.6),
        )
        for c in (card(group(8.0)), with_negatives())
    )
    found = taking_part.chosen(videos)
    assert set(found.sum(axis=1)) > {1}
    np.testing.assert_array_equal(found, without.chosen(videos))


def test_a_card_from_before_answers_as_before() -> None:
    """It does not know negative prompts: a softmax of the divided logits, to the bit."""
    tree = card(group(8.0)).model_dump()
    for name in ("tuned", "new"):
        assert tree[name].pop("negative_offset") is None
    old = Calibration.of(CalibrationCard.model_validate(tree), ASKED, TUNED)
    videos = normalise(np.random.default_rng(0).normal(size=(50, 3)))
    logits = 30.0 * (videos @ ASKED.T).astype(np.float64)
    logits /= old.temperatures[logits.argmax(axis=1)][:, None]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = Scorer(("a", "b", "c"), ASKED, NEGATIVES, 30.0, calibration=old).probabilities(videos)
    np.testing.assert_array_equal(found, exponents / exponents.sum(axis=1, keepdims=True))


def test_an_offset_belongs_to_both_groups_and_to_negative_prompts(handmade: Path) -> None:
    with pytest.raises(ValueError, match="or neither"):
        card(group(8.0, negatives=1.0))
    known = open_bundle(handmade).card.model_dump() | {"calibration": with_negatives()}
    assert BundleCard.model_validate(known).calibration == with_negatives()
    with pytest.raises(ValueError, match="offset for negative prompts but no negative prompt"):
        BundleCard.model_validate(known | {"negatives": ()})


def test_independent_scores_do_not_share_a_probability() -> None:
    scorer = Scorer(
        ("a", "b"),
        ASKED[:2],
        NONE,
        30.0,
        calibration=Calibration.of(card(None), ASKED[:2], TUNED),
        choice=MultiLabel(),
    )
    both, neither = np.float32([[1, 0, 1], [0, -1, 0]])
    videos = np.stack([both, neither])
    found = scorer.probabilities(videos)
    twin = 1 / (1 + np.exp(-(0.5 * 30 / np.sqrt(2) - 2)))
    np.testing.assert_allclose(found, [[twin, twin], [1 / (1 + np.exp(2))] * 2], rtol=1e-5)
    assert scorer.chosen(videos).tolist() == [[True, True], [False, False]]


def test_thresholds_are_given_else_fitted_else_a_half() -> None:
    names = ("a", "b", "c")
    features = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    known = Calibration.of(card(None, thresholds={"a": 0.2, "b": 0.3, "c": 0.4}), features, TUNED)
    # "c" has the name of a class with a threshold, but not its text: it is another one.
    assert known.thresholds(names, None).tolist() == [0.2, 0.3, 0.5]
    assert known.thresholds(names, {" B ": 0.9}).tolist() == [0.2, 0.9, 0.5]
    assert known.thresholds(names, 0.7).tolist() == [0.7, 0.7, 0.7]
    with pytest.raises(UserError, match="'d'"):
        known.thresholds(names, {"d": 0.1})


@pytest.mark.parametrize(("share", "place"), [(0.1, 1), (0.5, 5), (0.85, 9), (0.9, 9), (0.91, None)])
def test_the_quantile_is_that_of_split_conformal(share: float, place: int | None) -> None:
    """⌈(9 + 1) · share⌉ of nine values; 10 is one too many."""
    values = np.arange(1, 10) / 10
    assert quantile(values[::-1], share) == (1.0 if place is None else values[place - 1])


def test_sets_hold_the_truth_as_often_as_they_say() -> None:
    """On fresh clips of a model that is too sure: coverage within the 99.9 % binomial interval of fresh draws."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(3, 0.5), 4000)
    labels = np.array([rng.choice(3, p=row) for row in p])
    sharp = p**2 / (p**2).sum(axis=1, keepdims=True)
    half = np.arange(4000) < 2000
    misses = tuple(np.sort(1 - sharp[half, labels[half]]))
    fitted = group(1.0).model_copy(update={"misses": misses})
    calibration = Calibration.of(card(None, tuned=fitted, clips=2000), TUNED[[0, 1, 0]], TUNED)
    for share in (0.7, 0.9, 0.97):
        inside = calibration.sets(sharp[~half], share)[np.arange(2000), labels[~half]]
        assert abs(inside.mean() - share) < 3.3 * np.sqrt(2 * share * (1 - share) / 2000)


def test_the_best_class_is_always_in_the_set() -> None:
    calibration = Calibration.of(card(None), ASKED[:2], TUNED)
    assert calibration.sets(np.array([[0.45, 0.55]]), 0.01).tolist() == [[False, True]]


@pytest.mark.parametrize("wrong", [0, 1, 1.5, -0.1, "0.9", True, float("nan")])
def test_a_coverage_is_between_0_and_1(wrong: object) -> None:
    with pytest.raises(UserError, match="coverage"):
        Coverage(wrong)


@pytest.mark.parametrize("wrong", [1.5, -1, "x", {"a": 2}, {"a": "0.5"}, {"a": True}, {"a": None}])
def test_a_threshold_is_a_number_from_0_to_1(wrong: object) -> None:
    with pytest.raises(UserError, match="from 0 to 1"):
        MultiLabel(wrong)


def test_thresholds_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"juggling": 0.25}')
    assert read_thresholds(str(file)) == {"juggling": 0.25}
    assert read_thresholds("0.25") == 0.25
    for text in ("[]", "{}", "{", "3"):
        file.write_text(text)
        with pytest.raises(UserError, match="thresholds"):
            read_thresholds(str(file))
    with pytest.raises(UserError, match="cannot read"):
        read_thresholds(str(tmp_path / "none.json"))
    file.write_bytes('\ufeff{"juggling": 0.25}'.encode())  # as Windows' editors write it
    assert read_thresholds(str(file)) == {"juggling": 0.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"riding a bike": 0.1, "riding a bike": 0.9}', "'riding a bike' occurs twice"),
        ('{"riding a bike": 0.1, "Riding_a bike": 0.9}', "'Riding_a bike' occurs twice"),
        ('{"ab": 0.1, "a\u200bb": 0.9}', "can't be seen"),
        ('{"ab": 0.1, "riding": NaN}', "the threshold of 'riding' must be a number from 0 to 1, got nan"),
        ('{"riding": "0.5"}', "the threshold of 'riding' must be a number from 0 to 1, got '0.5'"),
        ('{"riding": true}', "the threshold of 'riding' must be a number from 0 to 1, got True"),
    ],
)
def test_a_file_of_thresholds_says_one_thing_of_each_class(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_thresholds(str(file))
    assert f"the thresholds {file}" in caught.value.message
    assert caught.value.hint
    for given in ({"riding a bike": 0.1, "Riding a bike": 0.9}, {"ab": 0.1, "": 0.2}):
        with pytest.raises(UserError, match=r"^thresholds: class name"):
            MultiLabel(given)


def test_equal_thresholds_are_one_question_however_they_are_spelled() -> None:
    one = MultiLabel({"riding a bike": 0.25, "juggling": 1})
    assert one.asked() == MultiLabel({"Juggling": 1.0, "riding_a  bike": 0.25}).asked()
    assert len({one.asked(), MultiLabel({"riding a bike": 0.26, "juggling": 1}).asked()}) == 2
    assert MultiLabel(1).asked() == MultiLabel(1.0).asked() == "multi-label, threshold 1.0"
    assert MultiLabel().asked() == MultiLabel({}).asked() == "multi-label"
    assert Coverage(0.9).asked() == "coverage 0.9"


@pytest.fixture
def calibrated(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the bundle whose card has a calibration."""

    def make(**changes: object) -> Path:
        out = tmp_path / "calibrated"
        shutil.copytree(bundle, out, dirs_exist_ok=True)
        changed = open_bundle(bundle).card.model_copy(update={"calibration": card(group(8.0), **changes)})
        (out / "bundle.json").write_text(changed.to_text(), encoding="utf-8")
        return out

    return make


def test_a_bundle_answers_with_sets_and_with_several_labels(calibrated, clip_path, caplog) -> None:
    with Predictor(calibrated(), provider="cpu", cache=False) as predictor:
        assert predictor.predict(clip_path).chosen is None
        several = predictor.predict(clip_path, choice=MultiLabel(0.0), top=1)
        assert several.chosen is not None
        assert sorted(several.chosen) == sorted(predictor.classes)
        assert several.to_json()["chosen"] == list(several.chosen)
        assert predictor.predict(clip_path, choice=MultiLabel(1.0)).chosen == ()
        held = predictor.predict(clip_path, choice=Coverage(0.9))
        assert held.chosen[0] == held.predictions[0][0]
        assert not caplog.records
        predictor.predict(clip_path, ["a whole other thing", predictor.classes[0]], choice=Coverage(0.9))
        said = "what is chosen is a guess for them"
        sets = f"{said}, and sets may hold the true class less often than asked, whichever it is"
        assert caplog.messages == [
            f"the model was not tuned on 1 of the 2 classes (a whole other thing): {sets}"
        ]
        predictor.predict(clip_path, ["a whole other thing", predictor.classes[0]], choice=MultiLabel())
        assert caplog.messages[1].endswith(said)


def test_a_model_without_calibration_says_so(bundle: Path, clip_path: Path) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        for choice in (MultiLabel(), Coverage(0.9)):
            with pytest.raises(UserError, match="has no calibration") as caught:
                predictor.predict(clip_path, choice=choice)
            assert "ga2clip export" in str(caught.value.hint)


def test_classes_that_cannot_be_told_apart() -> None:
    features = normalise(np.float32([[1, 0], [0, 1], [1, 0.001], [0.001, 1], [1, 0.2], [1, 0]]))
    assert alike_classes("abcdef", features) == [("a", "c"), ("a", "f"), ("b", "d")]


def test_one_class_alone_is_warned_of(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor, caplog.at_level(logging.WARNING):
        predictor.scorer([*predictor.classes][:2])
        assert "only class" not in caplog.text
        predictor.scorer([predictor.classes[0]])
    assert "only class" in caplog.text
    assert "100 %" in caplog.text


def test_a_question_is_warned_of_once_and_few_are_remembered(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor, caplog.at_level(logging.WARNING):
        for _ in range(3):
            predictor.scorer([predictor.classes[0]])
        assert caplog.text.count("only class") == 1
        for number in range(100):
            predictor.scorer([f"{predictor.classes[0]} {number}"])
        assert len(predictor._questions._asked) == 64


def test_the_own_classes_are_encoded_once(calibrated, clip_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run computes them with its text tower, which must not run for every question."""
    asked: list[tuple[str, ...]] = []
    encode = BundleModel.encode_classes
    monkeypatch.setattr(
        BundleModel,
        "encode_classes",
        lambda self, names, *rest: asked.append(names) or encode(self, names, *rest),
    )
    with Predictor(calibrated(), provider="cpu", cache=False) as predictor:
        for _ in range(3):
            predictor.predict(clip_path, ["one thing", "another thing"])
        assert asked.count(predictor.classes) == 1
        assert len(asked) == 4


def test_words_that_tiny_never_saw_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """By the bundle that ships and by torch alike."""
    from ga2clip import open_predictor

    builtin = Path(__file__).parents[2] / "ga2clip/assets/tiny/bundle"
    for model in (builtin, "tiny"):
        caplog.clear()
        with open_predictor(model, classes=["kicking a ball", "lifting a box"]) as predictor:
            predictor.scorer()
            assert "never seen" not in caplog.text
            predictor.scorer(["kicking a ball", "kicking 2 zyzzyvas, quaffing"])
        assert "never seen these words, they mean nothing to it: zyzzyvas, quaffing" in caplog.text
