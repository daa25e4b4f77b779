"""Which frames carried an answer: terms against a plain sum, Shapley values against their definition, what is drawn."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from ga2clip.predictions import Explanation
from ga2clip.runtime import NONE_LABEL, Predictor
from ga2clip.runtime.draw_explanation import draw_explanations
from ga2clip.runtime.draw_timeline import plot
from ga2clip.runtime.explain import explain, shapley_values
from ga2clip.runtime.scoring import Scorer, mean_over_frames, normalise
from ga2clip.runtime.timeline import timeline
from ga2clip.video import write_video
from ga2clip_cli.app import app

RNG = np.random.default_rng(0)
CLASSES = normalise(RNG.normal(size=(4, 6)))
LABELS = ("a", "b", "c", "d")
FRAMES = RNG.normal(size=(9, 6)).astype(np.float32)
SCORER = Scorer(LABELS, CLASSES, CLASSES[:0], 20.0)


def bent(features: np.ndarray) -> np.ndarray:
    """A pooling that sees the order: later frames weigh more, and squares take part."""
    moments = np.linspace(0.2, 1, features.shape[1])[:, None]
    return (features * moments + 0.3 * features**2).mean(axis=1).astype(np.float32)


def read_picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def explained(scorer: Scorer = SCORER, frames: np.ndarray = FRAMES, pool=mean_over_frames) -> Explanation:
    return explain(scorer, frames, pool, scorer.labels, range(len(frames)))


def test_contributions_of_the_mean_are_the_terms_of_the_cosine() -> None:
    found = explained()
    assert found.rule == "exact"
    video = FRAMES.mean(axis=0, dtype=np.float64)
    for part, text in zip(found.classes, CLASSES, strict=True):
        twin = [float(frame @ text) / (9 * np.linalg.norm(video)) for frame in FRAMES.astype(np.float64)]
        assert part.contributions == pytest.approx(twin, abs=1e-7)
        assert sum(part.contributions) == pytest.approx(float(video @ text) / np.linalg.norm(video), abs=1e-6)
        assert part.score == pytest.approx(
            float(SCORER.scores(normalise(video[None]))[0, LABELS.index(part.label)])
        )
        assert part.rest == pytest.approx(0, abs=1e-6)
        assert sum(part.weights) == pytest.approx(1)
        assert min(part.weights) >= 0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("pool", [mean_over_frames, bent])
def test_few_frames_have_their_shapley_values(count: int, pool) -> None:
    """Σ over sets S without the frame of |S|! (T - |S| - 1)!/T! times what the frame adds to S."""
    frames, text = FRAMES[:count], CLASSES[1].astype(np.float64)

    def worth(chosen: tuple[int, ...]) -> float:
        if not chosen:
            return 0.0
        video = pool(frames[sorted(chosen)][None])[0].astype(np.float64)
        return float(video @ text / np.linalg.norm(video))

    found = shapley_values(frames, CLASSES[1:2].astype(np.float64), pool)[:, 0]
    for frame in range(count):
        others = [other for other in range(count) if other != frame]
        value = sum(
            math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            * (worth((*chosen, frame)) - worth(chosen))
            for size in range(count)
            for chosen in itertools.combinations(others, size)
        )  # fmt: skip
        assert found[frame] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("count", [5, 9, 70])
def test_with_pooling_contributions_add_up_and_are_called_an_approximation(count: int) -> None:
    frames = np.random.default_rng(count).normal(size=(count, 6)).astype(np.float32)
    found = explained(frames=frames, pool=bent)
    assert found.rule == "approximation"
    scores = SCORER.scores(normalise(bent(frames[None])))[0]
    for part, score in zip(found.classes, scores, strict=True):
        assert len(part.contributions) == count
        assert sum(part.contributions) == pytest.approx(score, abs=1e-6)
        assert part.rest == pytest.approx(0, abs=1e-6)


def test_frames_that_show_the_class_get_the_weight() -> None:
    """The others, which show something else, have terms in the sum but no weight."""
    aside = np.linalg.qr(CLASSES.T)[0][:, 3]
    frames = np.stack([CLASSES[0] if 3 <= number < 6 else aside for number in range(9)]).astype(np.float32)
    weights = explained(frames=frames).classes[0].weights
    assert sum(weights[3:6]) > 0.97
    assert weights[3] == pytest.approx(weights[4], abs=0.05)


def test_still_clips_single_frames_and_nothing() -> None:
    still = explained(frames=np.repeat(FRAMES[:1], 7, axis=0)).classes
    assert [part.weights for part in still if part.score > 0] == [pytest.approx([1 / 7] * 7, abs=1e-6)] * len(
        [part for part in still if part.score > 0]
    )
    [single] = {part.weights for part in explained(frames=FRAMES[:1]).classes if part.score > 0}
    assert single == (1.0,)
    against = explained(frames=-CLASSES[:1].repeat(3, axis=0)).classes[0]
    assert against.score == pytest.approx(-1)
    assert against.weights == (0.0, 0.0, 0.0)
    black = explained(frames=np.zeros((3, 6), np.float32)).classes[0]
    assert (black.score, *black.contributions, *black.weights) == (0.0,) * 7


def test_none_of_these_and_sigmoids() -> None:
    """The threshold is carried by no frame; a sigmoid's cosines are those of a softmax."""
    negatives = normalise(RNG.normal(size=(2, 6)))
    open_set = Scorer((*LABELS, NONE_LABEL), CLASSES, negatives, 20.0, 0.25)
    found = explained(open_set)
    video = normalise(FRAMES.mean(axis=0)[None])
    assert found.classes[-1].score == pytest.approx(float((video @ negatives.T).max()) + 0.25, abs=1e-6)
    assert found.classes[-1].rest == pytest.approx(0.25, abs=1e-6)
    assert found.classes[:-1] == explained().classes
    assert explained(replace(SCORER, rule="sigmoid", bias=-3.0)).classes == explained().classes


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four clips: noise round four colours, one with a name that is not ASCII."""
    folder, rng, made = tmp_path_factory.mktemp("clips"), np.random.default_rng(1), []
    for name, colour in (
        ("a", (220, 30, 30)),
        ("ö 火", (30, 200, 40)),
        ("b", (20, 40, 210)),
        ("c", (90, 90, 90)),
    ):
        frames = np.clip(np.array(colour) + rng.integers(-40, 40, (12, 16, 16, 3)), 0, 255)
        write_video(folder / f"{name}.mp4", frames.astype(np.uint8), 6)
        made.append(folder / f"{name}.mp4")
    return made


def test_taught_classes_add_up_with_what_no_frame_carries(handmade, clips) -> None:
    with Predictor(handmade, provider="cpu", cache=False) as plain:
        taught = plain.teach({"bab": clips[:1], "ab": clips[1:2], NONE_LABEL: clips[3:]}, {"ab": clips[2:3]})
        scorer = taught.scorer(reject=True)
        answer = taught.predict(clips[2], top=9, reject=True, explain=True)
        features = next(taught.encode_files(clips[2:3], frames=True))
    scores = scorer.scores(normalise(features.video[None]))[0]
    assert answer.explanation.rule == "exact"
    assert answer.explanation.times == pytest.approx(features.times)
    for part in answer.explanation.classes:
        place = scorer.labels.index(part.label)
        assert part.score == pytest.approx(scores[place], abs=1e-6)
        assert sum(part.contributions) + part.rest == pytest.approx(part.score, abs=1e-9)
        if part.label == "abc":  # without examples
            assert part.rest == pytest.approx(scorer.taught.classes.offsets[place], abs=1e-6)


def test_the_answer_is_the_one_without_explanation(handmade, clips) -> None:
    frames = RNG.integers(0, 256, (7, 20, 30, 3), dtype=np.uint8)
    with Predictor(handmade, provider="cpu", cache=False) as predictor:
        many = list(predictor.predict_many(clips, top=2, explain=True, batch=3))
        assert [answer.explanation.frames.shape for answer in many] == [(2, 8, 8, 3)] * 4
        plain = list(predictor.predict_many(clips, top=2, batch=3))
        for ours, theirs in zip(many, plain, strict=True):
            assert dict(ours.predictions) == pytest.approx(dict(theirs.predictions), abs=1e-6)
            assert theirs.explanation is None
            assert "explanation" not in theirs.to_json()
        answer = predictor.predict_frames(frames, explain=True)
    assert answer.explanation.times == tuple(range(7))
    assert [part.label for part in answer.explanation.classes] == [label for label, _ in answer.predictions]
    assert json.loads(json.dumps(answer.to_json()))["explanation"]["rule"] == "exact"


def test_windows_of_a_timeline_are_explained_and_drawn(handmade, clips, tmp_path) -> None:
    """Each window by its own frames, so that they add up to its score."""
    with Predictor(handmade, provider="cpu", cache=False) as predictor:
        options = {"window": 1.0, "stride": 0.5, "fps": 6}
        found = timeline(predictor, clips[0], explain=True, **options)
        plain = timeline(predictor, clips[0], **options)
        scorer = predictor.scorer()
    assert [replace(answer, explanation=None) for answer in found.windows] == list(plain.windows)
    for window in found.windows:
        [part] = window.explanation.classes
        assert part.label == window.label
        assert all(window.start - 1e-6 <= time < window.end for time in window.explanation.times)
        assert sum(part.contributions) == pytest.approx(part.score, abs=1e-6)
        assert len(part.weights) == len(window.explanation.times)
    assert "explanation" in found.to_json()["windows"][0]
    assert "explanation" not in plain.to_json()["windows"][0]
    with_bars, without = (read_picture(plot(t, tmp_path / f"{n}.png")) for n, t in enumerate((found, plain)))
    dark = [(picture == 60).all(axis=2).sum() for picture in (with_bars, without)]
    assert dark[0] > 12 * 3 * 3
    assert dark[1] == 0
    assert scorer.labels == found.labels


def test_the_strip_shows_a_bar_as_high_as_the_weight(handmade, clips, tmp_path) -> None:
    with Predictor(handmade, provider="cpu", cache=False) as predictor:
        frames = RNG.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
        answer = predictor.predict_frames(frames, explain=True, top=1)
    weights = (1.0, 0.5, 0.0, *[0.25] * 9)
    part = replace(answer.explanation.classes[0], weights=weights)
    shown = replace(answer, explanation=replace(answer.explanation, classes=(part,)))
    picture = read_picture(draw_explanations([shown, shown], tmp_path / "strip.png"))
    blue = (picture == (38, 110, 184)).all(axis=2)
    # Ten frames in a row, then two; two videos, one below the other.
    starts = [12 + 118 * column + 56 for column in range(4)]
    assert [int(column.sum()) for column in blue[: len(blue) // 2, starts].T] == [47 + 13, 24 + 13, 0, 13]
    assert blue[: len(blue) // 2].sum() == blue[len(blue) // 2 :].sum()


@pytest.mark.parametrize("rule", ["exact", "approximation"])
def test_pictures_say_where_weights_are_an_approximation(
    handmade, clips, tmp_path, monkeypatch, rule
) -> None:
    with Predictor(handmade, provider="cpu", cache=False) as predictor:
        answer = predictor.predict_frames(np.zeros((3, 16, 16, 3), np.uint8), explain=True)
        spans = timeline(predictor, clips[0], explain=True)
    said: list[str] = []
    original = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *a, **k: (said.append(a[2]), original(*a, **k)))
    approximate = rule == "approximation"
    draw_explanations(
        [replace(answer, explanation=replace(answer.explanation, rule=rule))], tmp_path / "a.png"
    )
    assert [("(weights: an approximation)" in text) for text in said] == [approximate, *[False] * 6]
    said.clear()
    windows = [replace(w, explanation=replace(w.explanation, rule=rule)) for w in spans.windows]
    plot(replace(spans, windows=windows), tmp_path / "b.png")
    assert ("bars: an approximation" in said) == approximate


def run(*words: object):
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def test_command_line(handmade, clips, tmp_path) -> None:
    model = ("--model", handmade, "--explain")
    answer = run(*clips, *model, "--plot", tmp_path / "strip.png")
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("frames that carried '") == 4
    assert (tmp_path / "strip.png").exists()
    tree = json.loads(run(clips[1], *model, "--json").stdout)
    [result] = tree["results"]
    for part in result["explanation"]["classes"]:
        assert sum(part["contributions"]) + part["rest"] == pytest.approx(part["score"], abs=1e-9)
    out = tmp_path / "answers.jsonl"
    assert run(clips[0], *model, "--jsonl", out).exit_code == 0
    assert "explanation" in json.loads(out.read_text())
    assert run(*clips[:2], *model, "--resume", out).exit_code == 0
    assert out.read_text().count("explanation") == 2
    assert "come from another use of --explain" in str(
        run(clips[0], "--model", handmade, "--resume", out).exception
    )
    spans = run(clips[0], *model, "--timeline", "--json", "--fps", 6)
    assert json.loads(spans.stdout)["windows"][0]["explanation"]["rule"] == "exact"


def test_what_cannot_be_explained_is_refused_before_a_model_is_loaded(clips, tmp_path) -> None:
    model = ("--model", tmp_path / "none")
    for words, message in (
        ((clips[0], "--explain", "--csv", tmp_path / "a.csv"), "no place for what"),
        ((clips[0], "--explain", "--resume", tmp_path / "a.csv"), "no place for what"),
        ((clips[0], "--explain", "--follow"), "does not go with --follow"),
        ((clips[0], "--explain", "--timeline"), "--json or --plot"),
        ((clips[0], "--explain", "--timeline", "--csv", tmp_path / "a.csv"), "--json or --plot"),
        ((clips[0], "--plot", tmp_path / "a.png"), "needs --timeline or"),
    ):
        result = run(*words, *model)
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []
