"""One predictor over every model: a run in torch and its bundle answer alike, by every way of asking."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.evaluation.open_predictor import open_predictor
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import write_run
from ga2clip.runtime import NONE_LABEL, Predictor, open_bundle
from ga2clip.runtime.card import RejectCard
from ga2clip.runtime.draw_timeline import render
from ga2clip.runtime.stream import follow
from ga2clip.runtime.teach import teach
from ga2clip.runtime.timeline import timeline
from ga2clip.video import probe
from tests.conftest import write_clip
from tests.runtime.test_calibration import card, group

QUESTIONS = [
    {},
    {"classes": ["running", "riding a bike", "sleeping"]},
    {"classes": ["running", "riding a bike"], "template": "someone is {}"},
]


@pytest.fixture(scope="module")
def run(model: VideoCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random GA2 model as a run on disk."""
    return write_run(tmp_path_factory.mktemp("runs") / "ga2", model.settings, model)


@pytest.fixture(scope="module")
def both(run: Path, bundle: Path):
    """The run's predictor and its bundle's."""
    with (
        open_predictor(run, device="cpu", threads=1) as by_torch,
        open_predictor(bundle, provider="cpu", threads=1, cache=False) as by_onnx,
    ):
        yield by_torch, by_onnx


def numbers(answer: object) -> dict[str, float]:
    return dict(answer.predictions)  # type: ignore[attr-defined]


def test_negative_prompts_take_part_in_a_run_as_in_its_bundle(
    model: VideoCLIP, bundle: Path, clip_path: Path, tmp_path: Path
) -> None:
    """In answers, timelines and streams; the whole answer is not that of the model's own softmax."""
    folder = write_run(tmp_path / "run", model.settings, model)
    shutil.copytree(bundle, folder / "bundle")
    calibration = card(group(0.7, negatives=1.0), tuned=group(0.5, negatives=2.0))
    changed = open_bundle(bundle).card.model_copy(update={"calibration": calibration})
    (folder / "bundle/bundle.json").write_text(changed.to_text(), encoding="utf-8")
    names = ["running", model.classes[0], "sleeping"]
    windows = {"window": 0.5, "stride": 0.2, "fps": 10.0}
    with (
        open_predictor(folder, device="cpu", threads=1) as by_torch,
        Predictor(folder / "bundle", provider="cpu", cache=False) as by_onnx,
        Predictor(bundle, provider="cpu", cache=False) as plain,
    ):
        theirs, ours, before = (
            numbers(p.predict(clip_path, names, top=3)) for p in (by_torch, by_onnx, plain)
        )
        assert ours == pytest.approx(theirs, abs=2e-5)
        assert ours != pytest.approx(before, abs=1e-3)
        assert list(ours) == list(before)
        long = [timeline(p, clip_path, classes=names, **windows) for p in (by_torch, by_onnx, plain)]
        seen = [[w.probability for w in made.windows] for made in long]
        assert seen[1] == pytest.approx(seen[0], abs=2e-5)
        assert seen[1] != pytest.approx(seen[2], abs=1e-3)
        live = [p.probability for p in long[1].windows]
        streamed = list(follow(by_onnx, str(clip_path), classes=names, top=1, **windows))
        assert [a.predictions[0][1] for a in streamed][: len(live)] == pytest.approx(live, abs=1e-5)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_run_and_its_bundle_give_the_same_probabilities(both, clip_path, question) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), dtype=np.uint8)
    asked = [
        lambda p: p.predict(clip_path, top=9, **question),
        lambda p: list(p.predict_many([clip_path] * 3, top=9, batch=2, **question))[2],
        lambda p: p.predict_frames(frames, top=9, **question),
    ]
    for ask in asked:
        theirs, ours = (numbers(ask(predictor)) for predictor in both)
        assert len(ours) == len(question.get("classes", both[0].classes))
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("question", QUESTIONS)
def test_timelines_and_streams_of_runs_are_those_of_bundles(both, clip_path, question) -> None:
    windows = {"window": 0.5, "stride": 0.2, "fps": 10.0}
    theirs, ours = (timeline(predictor, clip_path, **windows, **question) for predictor in both)
    assert [(s.start, s.end, s.label) for s in ours.segments] == [
        (s.start, s.end, s.label) for s in theirs.segments
    ]
    assert [w.probability for w in ours.windows] == pytest.approx(
        [w.probability for w in theirs.windows], abs=1e-5
    )
    theirs, ours = (list(follow(p, str(clip_path), top=2, **windows, **question)) for p in both)
    for one, other in zip(ours, theirs, strict=True):
        assert one.time == other.time
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-5)


def test_a_run_s_timeline_can_be_rendered(both, clip_path, tmp_path) -> None:
    made = timeline(both[0], clip_path, window=0.4, stride=0.2, fps=10)
    assert probe(render(clip_path, made, tmp_path / "out.mp4")).frames == probe(clip_path).frames


def test_features_of_both_are_those_of_the_model(both, model: VideoCLIP) -> None:
    import torch

    clips = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        pixels = torch.from_numpy(model.preprocess.normalise(clips))
        frames = model.encode_frames(pixels).numpy()
        text = model.encode_classes(["running"]).numpy()
    for predictor in both:
        np.testing.assert_allclose(predictor.encode_clips(clips), frames.mean(axis=1), atol=1e-5)
        np.testing.assert_allclose(predictor.encode_frames(clips[1]), frames[1], atol=1e-5)
        np.testing.assert_allclose(
            predictor.encode_classes(["running"]), text / np.linalg.norm(text), atol=1e-5
        )
        assert predictor.model.negatives.shape == model.negatives.shape
        np.testing.assert_allclose(np.linalg.norm(predictor.model.negatives, axis=1), 1, atol=1e-5)


def test_rejection_says_what_a_run_lacks(both, clip_path) -> None:
    for predictor in both:
        assert predictor.model.threshold is None
        with pytest.raises(UserError, match="no threshold for 'none of these'") as caught:
            predictor.predict(clip_path, reject=True)
        assert "ga2clip export" in caught.value.hint


def test_a_run_rejects_by_the_threshold_of_its_own_bundle(
    run, bundle, make_model, clip_path, tmp_path
) -> None:
    def with_threshold(folder: Path) -> None:
        shutil.copytree(bundle, folder)
        card = open_bundle(folder).card
        rule = RejectCard(threshold=0.1, fitted_on="clips", kept=0.9, rejected=None)
        (folder / "bundle.json").write_text(
            card.model_copy(update={"reject": rule}).to_text(), encoding="utf-8"
        )

    own, other = tmp_path / "own", write_run(tmp_path / "other", (m := make_model(text_depth=1)).settings, m)
    shutil.copytree(run, own)
    for folder in (own, other):
        with_threshold(folder / "bundle")
    answers = []
    for path in (own, own / "bundle"):
        with open_predictor(path, device="cpu", cache=False) as predictor:
            assert predictor.model.threshold == 0.1
            answers.append(numbers(predictor.predict(clip_path, top=9, reject=True)))
    assert NONE_LABEL in answers[0]
    assert answers[0] == pytest.approx(answers[1], abs=1e-5)
    with open_predictor(other, device="cpu") as predictor:  # the bundle is another model's
        assert predictor.model.threshold is None


def test_the_classes_of_a_predictor_are_ranked_when_none_are_asked(bundle, run, model, clip_path) -> None:
    names = ["running", "sleeping"]
    for source in (bundle, run, model):
        with open_predictor(source, classes=names, provider="cpu") as predictor:
            assert predictor.classes == tuple(names)
            assert numbers(predictor.predict(clip_path)).keys() == set(names)


def test_a_model_of_one_s_own_is_enough(clip_path) -> None:
    """What `ClipModel` names is all that a predictor uses."""
    from ga2clip.video import Preprocess

    class Bright:
        name, provider, classes, frames, scale, threshold = "own", "numpy", ("dark", "bright"), 4, 10.0, 0.0
        preprocess = Preprocess(size=8)
        negatives = np.float32([[-1, 0]])
        scoring, logit_bias, taught, calibration = "softmax", 0.0, None, None
        fingerprint, independent_frames = "0" * 64, True
        closed = False

        def encode_frames(self, frames):
            return np.float32([[1 - f.mean() / 255, f.mean() / 255] for f in frames])

        def encode_clips(self, clips):
            return self.pool(np.stack([self.encode_frames(clip) for clip in clips]))

        def pool(self, features):
            return features.mean(axis=1)

        def encode_classes(self, names, template, sentences):
            return np.float32([[name != "bright", name == "bright"] for name in names])

        def unknown_words(self, names):
            return []

        def close(self):
            self.closed = True

    own = Bright()
    with Predictor(own) as predictor:
        white = np.full((2, 9, 9, 3), 255, np.uint8)
        assert predictor.predict_frames(white).predictions[0][0] == "bright"
        assert predictor.predict_frames(0 * white, reject=True).predictions[0][0] == "dark"
        assert predictor.predict(clip_path).frames == 4
    assert own.closed
    del Bright.unknown_words, Bright.taught
    with pytest.raises(UserError, match="the model Bright lacks taught, unknown_words"):
        Predictor(own)


def as_schema_2(folder: Path) -> None:
    """The card as it was when all bundles were plain CLIPs."""
    card = json.loads((folder / "bundle.json").read_text())
    pixels = {key: card["preprocess"][key] for key in ("size", "mean", "std", "colour")}
    card["preprocess"] = pixels | {"resize": "bicubic-short-side", "crop": "centre"}
    del card["scoring"]["bias"]
    for key in ("tokenizer", "pad", "blank_end"):
        del card["text"][key]
    card["schema_version"] = 2
    (folder / "bundle.json").write_text(json.dumps(card))


def as_schema_1(folder: Path) -> None:
    """The card as the first version wrote it: no word on pooling, scoring or cleaning, the scale at the top."""
    as_schema_2(folder)
    card = json.loads((folder / "bundle.json").read_text())
    card["logit_scale"] = card.pop("scoring")["scale"]
    del card["pooling"], card["text"]["cleaning"]
    card["schema_version"] = 1
    (folder / "bundle.json").write_text(json.dumps(card))


@pytest.mark.parametrize("written", [as_schema_1, as_schema_2])
def test_a_bundle_of_an_older_schema_predicts_the_same(bundle, clip_path, tmp_path, written) -> None:
    old = tmp_path / "old"
    shutil.copytree(bundle, old)
    written(old)
    card = open_bundle(bundle).card
    assert card.schema_version == 3
    assert open_bundle(old).card == card
    open_bundle(old).verify()
    for question in QUESTIONS:
        answers = []
        for path in (bundle, old):
            with Predictor(path, provider="cpu", threads=1, cache=False) as predictor:
                answers.append(predictor.predict(clip_path, top=9, **question))
        assert answers[0] == replace(answers[1])


def test_a_card_of_schema_1_is_checked_like_any_other(bundle, tmp_path) -> None:
    old = tmp_path / "old"
    shutil.copytree(bundle, old)
    as_schema_1(old)
    card = json.loads((old / "bundle.json").read_text())
    for change, message in [
        ({"logit_scale": -1}, "scoring.scale"),
        ({"logit_scale": None}, "scoring.scale"),
        ({"extra": 1}, "extra"),
        ({"schema_version": 1.0}, "schema version 1.0"),
        ({"schema_version": 5}, "reads versions 1 to 4"),
        ({"preprocess": card["preprocess"] | {"resize": "nearest"}}, "preprocess.resize"),
        ({"preprocess": []}, "preprocess"),
    ]:
        (old / "bundle.json").write_text(json.dumps(card | change))
        with pytest.raises(UserError, match=message):
            open_bundle(old)
    del card["logit_scale"]
    (old / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"scoring\.scale"):
        open_bundle(old)


def test_a_run_and_its_bundle_are_taught_alike(both, bundle: Path, clip_path: Path, tmp_path: Path) -> None:
    """In memory and on disk; a Triton repository cannot hold what was taught."""
    from ga2clip_export.triton import write_triton

    other = write_clip(tmp_path / "other.mp4", frames=7, fps=5)
    examples = {"juggling": [other], "riding a bike": [clip_path]}
    answers = []
    for predictor in both:
        taught = predictor.teach(examples)
        assert taught.classes == (*predictor.classes, "juggling")
        answers.append(numbers(taught.predict(other, top=9)))
        assert numbers(predictor.predict(other, top=9)).keys() == set(predictor.classes)
    assert answers[0] == pytest.approx(answers[1], abs=1e-4)
    assert max(answers[0], key=answers[0].get) == "juggling"
    out = teach(bundle, examples, tmp_path / "taught", provider="cpu")
    with Predictor(out, provider="cpu", threads=1) as predictor:
        assert numbers(predictor.predict(other, top=9)) == pytest.approx(answers[1], abs=1e-5)
    with pytest.raises(UserError, match="was taught"):
        write_triton(out, tmp_path / "triton")
