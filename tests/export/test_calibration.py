"""What the export fits for probabilities, on features whose right answer is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.data.protocols import load_task
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import build_model
from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.fit_calibration import best_f1_cut, errors_of
from ga2clip.runtime.scoring import normalise
from ga2clip.video import Preprocess
from ga2clip_export import calibration_clips, export
from ga2clip_export.calibration import fit_calibration, fit_softmax, fit_temperature
from ga2clip_export.calibration_clips import labelled
from ga2clip_export.export import untuned_texts
from tests.small_training import dataset as dataset
from tests.small_training import settings as settings


def drawn(clips: int, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 5) and classes drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = 6 * rng.normal(size=(clips, 5))
    return logits, np.array([rng.choice(5, p=row) for row in softmax(logits / temperature)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(6000, temperature=temperature)) == pytest.approx(temperature, rel=0.12)


@pytest.mark.parametrize(("temperature", "offset"), [(0.7, 2.0), (2.0, -3.0)])
def test_the_offset_of_negative_prompts_that_labels_were_drawn_with_is_found(
    temperature: float, offset: float
) -> None:
    """A clip that belongs to a negative prompt has any class."""
    rng = np.random.default_rng(1)
    logits, negatives = 6 * rng.normal(size=(6000, 5)), 6 * rng.normal(size=(6000, 3))
    whole = softmax(np.concatenate([logits, negatives + offset], axis=1) / temperature)
    drawn = np.array([rng.choice(8, p=row) for row in whole])
    labels = np.where(drawn < 5, drawn, rng.integers(0, 5, 6000))
    found = fit_softmax(logits, negatives, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.12)
    assert found.negative_offset == pytest.approx(offset, abs=0.5)


def test_negative_prompts_that_say_nothing_do_no_harm() -> None:
    logits, labels = drawn(6000, temperature=2.0)
    negatives = 6 * np.random.default_rng(5).normal(size=(6000, 3))
    alone, found = fit_softmax(logits, negatives[:, :0], labels), fit_softmax(logits, negatives, labels)
    assert alone == (fit_temperature(logits, labels), None)
    nothing = logits[:, :0]
    before, after = (
        errors_of(rule.probabilities(logits, own), labels)[1]
        for rule, own in ((alone, nothing), (found, negatives))
    )
    assert after < before + 1e-4
    assert found.negative_offset < -15


def test_the_cut_of_the_best_f1() -> None:
    """0.4 … 0.5: 3 hits, 1 false alarm, F1 6/7. Higher cuts miss one; lower ones let two in."""
    scores = np.array([0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 0.9])
    positive = np.array([0, 0, 0, 1, 0, 1, 1], bool)
    assert best_f1_cut(scores, positive) == pytest.approx(0.45)


def features(clips: int, *, sure: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit video features, classes, class texts, and texts that miss the classes by more."""
    rng = np.random.default_rng(3)
    centres = normalise(rng.normal(size=(6, 16)))
    labels = np.arange(clips) % 6
    video = normalise(centres[labels] + sure * rng.normal(size=(clips, 16)) / 4)
    untuned = normalise(centres + 0.2 * rng.normal(size=centres.shape))
    return video, labels, centres, untuned


def test_a_model_is_calibrated_for_its_classes_and_for_new_names() -> None:
    video, labels, bank, untuned = features(600, sure=1.0)
    names = [f"class {n}" for n in range(6)]
    none = bank[:0]
    card = fit_calibration(video, labels, bank, untuned, none, scale=60.0, classes=names, source="here")
    assert card is not None
    assert card.without_negatives
    assert (card.clips, card.fitted_on) == (600, "here")
    for group, texts in ((card.tuned, bank), (card.new, untuned)):
        logits = 60.0 * video @ texts.T
        assert group.temperature == pytest.approx(fit_temperature(logits, labels))
        assert group.accuracy == (logits.argmax(axis=1) == labels).mean()
        assert group.ece < group.ece_before
        assert group.brier < group.brier_before
        assert len(group.misses) == 600
        # Held out in turns: the binomial interval of 600 clips is 2.4 points.
        assert abs(group.covered - 0.9) < 0.04 or group.set_size == 1.0
    # Texts that fit worse need more doubt.
    assert card.new.temperature > card.tuned.temperature
    cosines = bank @ bank.T - 2 * np.eye(6)
    assert card.reach == pytest.approx(np.median(1 - cosines.max(axis=1)), rel=1e-5)
    assert set(card.thresholds) == set(names)


def test_scores_that_are_lower_where_a_class_is_shown_are_not_calibrated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Their sigmoid would fall with the cosine, which no card may say."""
    video, labels, bank, _ = features(60, sure=1.0)
    rest: dict[str, Any] = {"scale": 60.0, "classes": [f"class {n}" for n in range(6)], "source": "here"}
    assert fit_calibration(-video, labels, bank, None, bank[:0], **rest) is None
    assert "does not tell the run's own classes apart" in caplog.text
    card = fit_calibration(video, labels, bank, -bank, bank[:0], **rest)
    assert card is not None
    assert card.new is None
    assert "new names are treated as tuned ones" in caplog.text


def test_sets_are_made_of_the_probabilities_without_negative_prompts() -> None:
    """The misses are those of the twin's softmax at the card's temperature; accuracy is as without negatives."""
    video, labels, bank, untuned = features(600, sure=1.0)
    negatives = normalise(np.random.default_rng(4).normal(size=(3, 16)))
    names = list("abcdef")
    card = fit_calibration(video, labels, bank, untuned, negatives, scale=60.0, classes=names, source="here")
    assert card.makes_sets
    plain = fit_calibration(video, labels, bank, untuned, bank[:0], scale=60.0, classes=names, source="here")
    for group, other, texts in ((card.tuned, plain.tuned, bank), (card.new, plain.new, untuned)):
        own = np.exp(60.0 * video.astype(float) @ texts.T / group.temperature)
        likely = own / own.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(group.misses, np.sort(1 - likely[np.arange(600), labels]), atol=2e-6)
        assert group.accuracy == other.accuracy
        assert group.brier <= other.brier + 1e-3


def test_scores_of_single_classes_are_frequencies() -> None:
    """Of the clip-class pairs with a score near p, a share of about p belongs together."""
    video, labels, bank, _ = features(3000, sure=1.5)
    card = fit_calibration(
        video, labels, bank, None, bank[:0], scale=60.0, classes=list("abcdef"), source="here"
    )
    scores = 1 / (1 + np.exp(-(card.tuned.slope * 60.0 * video @ bank.T + card.tuned.offset)))
    shows = np.eye(6)[labels]
    assert scores.mean() == pytest.approx(shows.mean(), abs=0.01)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        inside = (scores > low) & (scores <= high)
        assert shows[inside].mean() == pytest.approx(scores[inside].mean(), abs=0.08)
    assert card.new is None


@pytest.mark.parametrize(("clips", "classes"), [(19, 6), (100, 1)])
def test_too_little_is_not_fitted_and_said(
    clips: int, classes: int, caplog: pytest.LogCaptureFixture
) -> None:
    video, labels, bank, _ = features(clips, sure=1.0)
    shown = labels < classes
    bank = bank[:classes]
    names = list("abcdef")[:classes]
    assert (
        fit_calibration(
            video[shown], labels[shown], bank, None, bank[:0], scale=9.0, classes=names, source=""
        )
        is None
    )
    assert "not calibrated" in caplog.text


def test_it_is_fitted_on_clips_that_were_not_tuned_on_and_never_on_test_clips(
    settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each class has 4 training and 2 test clips; 3 shots leave one over."""
    chosen = settings(data={"shots": 3, "protocol": "base-to-novel"})
    task = load_task(chosen)[1]
    assert len(task.unused) == 2
    assert not {clip.id for clip in task.unused} & {clip.id for clip in task.train}
    assert {clip.split for clip in task.unused} == {"train"}
    assert {clip.label for clip in task.unused} == set(task.classes)
    pixels = Preprocess(size=16)
    shown, labels, source = labelled(task, pixels, 2, 400, tuned=True)
    assert shown.shape == (8, 2, 16, 16, 3)
    assert [task.classes[label] for label in labels].count(task.classes[0]) == 4
    assert source == (
        "2 clips of the training part that the model was not tuned on and 6 clips that it was tuned on"
    )
    monkeypatch.setattr(calibration_clips, "_HELD_OUT", 2)  # enough of them
    shown, labels, source = labelled(task, pixels, 2, 400, tuned=True)
    assert (len(shown), sorted(labels)) == (2, [0, 1])
    assert source == "2 clips of the training part that the model was not tuned on"
    shown, _, source = labelled(task, pixels, 2, 400, tuned=False)
    assert (len(shown), source) == (8, "8 clips of the training part that the model was not tuned on")


@pytest.mark.parametrize(("tune", "loads"), [("prompts", 0), ("text", 1), ("both", 1)])
def test_untuned_texts_are_those_before_tuning(
    settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tune: str, loads: int
) -> None:
    """A backbone is loaded again only where its text tower was tuned."""
    chosen = settings("ivlp", method={"tune": tune})
    model = build_model(load_backbone(chosen.backbone), chosen, ("running", "sleeping")).eval()
    expected = untuned_texts(model)
    assert expected is not None
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.1)
    loaded: list[object] = []
    monkeypatch.setattr(export, "load_backbone", lambda own: loaded.append(own) or load_backbone(own))
    np.testing.assert_array_equal(untuned_texts(model), expected)
    assert len(loaded) == loads
