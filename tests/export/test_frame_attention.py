"""Bundles of models whose frames attend to their neighbours: clips are encoded whole, and nothing else is done."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.runtime.bundle import open_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.card import parse_card
from ga2clip.runtime.describe import describe
from ga2clip.runtime.embed import embed, read_features
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.stream import follow
from ga2clip.runtime.timeline import timeline
from ga2clip.settings import Settings
from ga2clip.video import Playback, SamplingRule, sample_frames
from ga2clip_export.bench import bench
from ga2clip_export.export import export_model
from tests.conftest import write_clip
from tests.model.test_pooling import move

pytestmark = pytest.mark.usefixtures("traced_once")

CLASSES = ("kicking a ball", "riding a bike", "rowing a boat")
FRAMES = 4
Exported = tuple[VideoCLIP, Path]


def make(clip_file: Path, attention: str = "neighbours", pooling: str = "attention") -> VideoCLIP:
    method = {"text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2}
    method |= {"pooling": pooling, "frame_attention": attention}
    tree = {"backbone": {"pretrained": str(clip_file)}, "method": method, "data": {"frames": FRAMES}}
    settings = Settings().updated(tree, "test")
    torch.manual_seed(1)
    model = build_model(load_backbone(settings.backbone), settings, CLASSES)
    move(model)
    return model.eval()


@pytest.fixture(scope="module")
def exported(clip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoCLIP, Path]:
    """A model with prompts and temporal pooling, and its bundle."""
    model = make(clip_file)
    return model, export_model(model, tmp_path_factory.mktemp("bundles") / "bundle")


def clips(frames: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (count, frames, 16, 16, 3), dtype=np.uint8)


@torch.no_grad()
def in_torch(model: VideoCLIP, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame and video features of clips."""
    pixels = torch.from_numpy(model.preprocess.normalise(given))
    return model.encode_frames(pixels).numpy(), model.encode_video(pixels).numpy()


def test_a_bundle_encodes_clips_as_torch_does(exported: Exported) -> None:
    model, path = exported
    ours = BundleModel(path, cache=False)
    assert not ours.independent_frames
    for frames in (1, 2, FRAMES, 7):
        given = clips(frames)
        each, videos = in_torch(model, given)
        np.testing.assert_allclose(ours.encode_frames(given[0]), each[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(ours.encode_clips(given), videos, rtol=1e-3, atol=1e-4)
    alone = ours.encode_frames(given[0][:1])
    assert np.abs(alone - each[0][:1]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.99999), ("fp16", 0.999), ("int8", 0.99)])
def test_every_precision_agrees_with_torch_without_a_pooling_too(
    clip_file: Path, tmp_path: Path, precision: str, bound: float
) -> None:
    model = make(clip_file, pooling="mean")
    path = export_model(model, tmp_path / "bundle", precision=precision)
    card = open_bundle(path).card
    assert card.agreement.outputs["frame_features"].min_cosine > bound
    assert card.agreement.outputs["single_frame"].min_cosine > bound
    given = clips(FRAMES)
    for ours, theirs in zip(
        BundleModel(path, cache=False).encode_clips(given), in_torch(model, given)[1], strict=True
    ):
        assert ours @ theirs > bound * np.linalg.norm(ours) * np.linalg.norm(theirs)


@pytest.mark.slow
def test_a_static_bundle_takes_clips_of_its_length_alone(clip_file: Path, tmp_path: Path) -> None:
    model = make(clip_file)
    ours = BundleModel(export_model(model, tmp_path / "bundle", static=True), cache=False)
    given = clips(FRAMES)
    np.testing.assert_allclose(
        ours.encode_frames(given[0]), in_torch(model, given)[0][0], rtol=1e-3, atol=1e-4
    )
    for frames in (1, 2 * FRAMES):  # not cut into pieces and not filled up, as independent frames are
        with pytest.raises(UserError, match=f"takes clips of {FRAMES} frames, got {frames}"):
            ours.encode_frames(clips(frames)[0])
        with pytest.raises(UserError, match=f"takes clips of {FRAMES} frames, got {frames}"):
            ours.encode_clips(clips(frames))


def test_the_card_says_it_and_is_as_it_was_without(exported: Exported, bundle: Path) -> None:
    """So an older ga2clip refuses such a bundle, which it would answer wrongly with, and reads all others."""
    texts = [(folder / "bundle.json").read_text() for folder in (exported[1], bundle)]
    assert json.loads(texts[0])["independent_frames"] is False
    assert "independent_frames" not in json.loads(texts[1])
    assert parse_card(texts[1], "card").independent_frames
    card = open_bundle(exported[1]).card
    assert card.agreement.outputs["single_frame"].min_cosine > 0.99999
    assert "frames are encoded with their neighbours" in describe(card, "here")


def test_the_probe_is_a_whole_clip_by_which_a_run_knows_its_bundle(
    exported: Exported, clip_file: Path, clip_path: Path
) -> None:
    model, path = exported
    probe = open_bundle(path).probe()
    assert probe.frames.shape[1] == FRAMES
    np.testing.assert_allclose(in_torch(model, probe.frames)[0], probe.frame_features, rtol=1e-3, atol=1e-4)
    assert TorchModel(model, "run", device="cpu", exported=path)._card == open_bundle(path).card
    other = make(clip_file, "own")  # of the same weights
    assert TorchModel(other, "other", device="cpu", exported=path)._card is None
    [row] = bench([path], [clip_path], rounds=1, threads=1).rows
    assert row.cosine > 0.9999


def test_a_reversed_clip_has_its_frame_features_reversed_and_another_answer_with_a_pooling(
    exported: Exported,
) -> None:
    frames = clips(FRAMES)[0]
    with Predictor(exported[1], cache=False) as predictor:
        there, back = (predictor.encode_frames(np.ascontiguousarray(part)) for part in (frames, frames[::-1]))
        answers = [dict(predictor.predict_frames(part, top=3).predictions) for part in (frames, frames[::-1])]
    np.testing.assert_allclose(back, there[::-1], rtol=1e-3, atol=1e-4)
    model = exported[0]
    with torch.no_grad():
        clips_of_both = torch.from_numpy(model.preprocess.normalise(np.stack([frames, frames[::-1]])))
        logits = model.logits(model.encode_video(clips_of_both), model.encode_classes(list(CLASSES)))
    for answer, expected in zip(answers, logits.softmax(dim=-1).numpy(), strict=True):
        np.testing.assert_allclose([answer[name] for name in CLASSES], expected, atol=1e-4)
    assert max(abs(answers[0][name] - answers[1][name]) for name in CLASSES) > 1e-3  # ten of the tolerances


def test_windows_are_encoded_as_whole_clips(exported: Exported, clip_path: Path) -> None:
    """The answer of each window is that of its frames as a clip; timeline and stream say the same."""
    path = exported[1]
    settings = {"window": 0.8, "stride": 0.2, "fps": 10.0}
    with Predictor(path, cache=False) as predictor, Playback(clip_path, 10) as playback:
        shown = np.stack([predictor.prepare(frame[None])[0] for _, frame in playback.frames()])
        found = timeline(predictor, clip_path, explain=True, **settings)
        streamed = list(follow(predictor, str(clip_path), **settings))
        scorer = predictor.scorer()
        starts = range(0, len(shown) - 7, 2)
        assert len(found.windows) == len(streamed) == len(starts)
        for start, answer, result in zip(starts, found.windows, streamed, strict=True):
            part = shown[start : start + 8]
            video = predictor.encode_clips(part[None])
            best = scorer.probabilities(video)[0].max()
            assert answer.probability == pytest.approx(best, abs=1e-6)
            assert result.predictions[0] == pytest.approx((answer.label, best), abs=1e-6)
            explained = answer.explanation.classes[0]
            total = sum(explained.contributions) + explained.rest
            assert total == pytest.approx(explained.score, abs=1e-6)
            unit = video / np.linalg.norm(video)
            assert explained.score == pytest.approx(scorer.scores(unit)[0].max(), abs=1e-5)
        plain = timeline(predictor, clip_path, **settings)
    assert (plain.encoded_frames, plain.reused_frames) == (8 * len(starts), 0)
    assert found.encoded_frames == 2 * 8 * len(starts)  # for the answer, and for its explanation


def test_a_still_frame_keeps_no_features(
    exported: Exported, bundle: Path, clip_path: Path, tmp_path: Path
) -> None:
    """By default all are encoded; a bound is refused, before anything is written."""
    with Predictor(exported[1], cache=False) as predictor:
        for ask in (
            lambda: timeline(predictor, clip_path, still=1.0),
            lambda: follow(predictor, str(clip_path), still=1.0),
            lambda: predictor.encode_files([clip_path], frames=True, still=1.0),
            lambda: embed(predictor, [clip_path], tmp_path / "f.npz", frames=True, still=1.0),
        ):
            with pytest.raises(UserError, match="encodes frames with their neighbours") as caught:
                ask()
            assert "--still" in caught.value.hint
        assert not list(tmp_path.iterdir())
        assert timeline(predictor, clip_path, still=0).reused_frames == 0
    with Predictor(bundle, cache=False) as plain:
        assert timeline(plain, clip_path, still=255.0).reused_frames > 0


def test_embedded_frames_are_those_of_their_clip(
    exported: Exported, clip_file: Path, clip_path: Path, tmp_path: Path
) -> None:
    """Also of clips that show the same frame; and parts of another model of the same weights are not continued."""
    other = write_clip(tmp_path / "other.mp4", frames=5)
    with Predictor(exported[1], cache=False) as predictor:
        embed(predictor, [clip_path, other], tmp_path / "f.npz", frames=True)
        stored = read_features(tmp_path / "f.npz")
        assert stored.provenance["still"] == 0
        for number, file in enumerate((clip_path, other)):
            frames = predictor.prepare(sample_frames(file, SamplingRule(frames=FRAMES)).frames)
            own = stored.frames[stored.starts[number] : stored.starts[number + 1]]
            np.testing.assert_allclose(own, predictor.encode_frames(frames), atol=1e-6)
            np.testing.assert_allclose(
                stored.video[number], predictor.encode_clips(frames[None])[0], atol=1e-5
            )
            answer = predictor.predict(file, explain=True).explanation
            assert answer.classes[0].score == pytest.approx(sum(answer.classes[0].contributions), abs=1e-5)
    (tmp_path / "g.npz.parts").mkdir()
    made = tmp_path / "g.npz.parts" / "provenance.json"
    models = [TorchModel(make(clip_file, kind), "run", device="cpu") for kind in ("neighbours", "own")]
    with Predictor(models[0]) as ours, Predictor(models[1]) as plain:
        notes = {
            **stored.provenance,
            "model": ours.name,
            "model_sha256": ours.fingerprint,
            "provider": ours.provider,
        }
        made.write_text(json.dumps(notes | {"frame_features": False}))
        with pytest.raises(UserError, match="features of another model or other options"):
            embed(plain, [clip_path], tmp_path / "g.npz")
