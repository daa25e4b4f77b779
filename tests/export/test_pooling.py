"""Temporal pooling in a bundle: a graph of its own, that gives what torch gives for any number of frames."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ga2clip.choices import BundlePrecision
from ga2clip.errors import UserError
from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.files import file_sha256
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.runtime.bundle import open_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.teach import teach
from ga2clip.runtime.timeline import timeline
from ga2clip.settings import Settings
from ga2clip_export.export import export_model
from ga2clip_export.triton import write_triton
from tests.conftest import write_clip
from tests.model.test_pooling import KINDS, move

pytestmark = pytest.mark.usefixtures("traced_once")

CLASSES = ("kicking a ball", "riding a bike", "rowing a boat")


def make(clip_file: Path, kind: str, *, moved: bool = True) -> VideoCLIP:
    method = {"text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2, "pooling": kind}
    tree = {"backbone": {"pretrained": str(clip_file)}, "method": method, "data": {"frames": 4}}
    settings = Settings().updated(tree, "test")
    torch.manual_seed(1)
    model = build_model(load_backbone(settings.backbone), settings, CLASSES)
    if moved:
        move(model)
    return model.eval()


def features(frames: int, clips: int = 2) -> np.ndarray:
    return np.random.default_rng(frames).normal(size=(clips, frames, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(
    clip_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[VideoCLIP, Path]]:
    made: dict[str, tuple[VideoCLIP, Path]] = {}

    def export(kind: str) -> tuple[VideoCLIP, Path]:
        if kind not in made:
            model = make(clip_file, kind)
            made[kind] = model, export_model(model, tmp_path_factory.mktemp(kind) / "bundle")
        return made[kind]

    return export


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_pools_as_torch_does(exported: Callable[[str], tuple[VideoCLIP, Path]], kind: str) -> None:
    model, path = exported(kind)
    ours = BundleModel(path, cache=False)
    for frames in (1, 2, 4, 7):
        given = features(frames)
        with torch.no_grad():
            expected = model.pool(torch.from_numpy(given)).numpy()
        np.testing.assert_allclose(ours.pool(given), expected, rtol=1e-4, atol=1e-5)
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = model.encode_video(torch.from_numpy(model.preprocess.normalise(clips))).numpy()
    np.testing.assert_allclose(ours.encode_clips(clips), expected, rtol=1e-3, atol=1e-4)
    card = open_bundle(path).card
    assert card.pooling == "graph"
    assert "pooling.onnx" in card.files
    assert card.agreement.outputs["other_lengths_pooled"].min_cosine > 0.99999
    outputs = onnx.load(str(path / "video_encoder.onnx")).graph.output
    assert [output.name for output in outputs] == ["frame_features"]


def test_order_changes_the_answer_and_the_mean_knows_none(
    exported: Callable[[str], tuple[VideoCLIP, Path]], clip_file: Path, tmp_path: Path
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)

    def difference(path: Path) -> float:
        with Predictor(path, cache=False) as predictor:
            there, back = (
                dict(predictor.predict_frames(part, top=3).predictions) for part in (frames, frames[::-1])
            )
        return max(abs(there[name] - back[name]) for name in CLASSES)

    assert difference(exported("transformer")[1]) > 1e-4
    mean = export_model(make(clip_file, "mean"), tmp_path / "mean")
    assert difference(mean) < 1e-6
    assert not (mean / "pooling.onnx").exists()
    assert json.loads((mean / "bundle.json").read_text())["pooling"] == "mean"


def test_before_training_the_bundle_is_the_mean(clip_file: Path, tmp_path: Path) -> None:
    ours = BundleModel(export_model(make(clip_file, "attention", moved=False), tmp_path / "b"), cache=False)
    np.testing.assert_allclose(ours.pool(features(5)), features(5).mean(axis=1), atol=1e-6)


def test_a_pooling_graph_is_checked_before_it_runs(
    exported: Callable[[str], tuple[VideoCLIP, Path]], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(exported("trend")[1], tmp_path / "bundle"))
    card = json.loads((path / "bundle.json").read_text())
    shutil.copy(path / "text_encoder.onnx", path / "pooling.onnx")
    card["files"]["pooling.onnx"] = card["files"]["text_encoder.onnx"]
    (path / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"pooling.onnx is not a graph that this bundle may hold"):
        BundleModel(path, cache=False)
    with pytest.raises(UserError, match=r"pooling.onnx is not a graph that this bundle may hold"):
        open_bundle(path).verify()
    del card["files"]["pooling.onnx"]
    (path / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"lists no pooling.onnx"):
        open_bundle(path)


def test_the_probe_says_what_its_frames_are_pooled_to(
    exported: Callable[[str], tuple[VideoCLIP, Path]],
) -> None:
    """So that a client can test its pooling, and a run knows whether a bundle was made from it."""
    model, path = exported("trend")
    bundle = open_bundle(path)
    probe = bundle.probe()
    np.testing.assert_allclose(
        BundleModel(path, cache=False).pool(probe.frame_features), probe.video_features, rtol=1e-4, atol=1e-5
    )
    assert TorchModel(model, "this", device="cpu")._pools_as(probe)
    other = copy.deepcopy(model)
    move(other, 0.5)
    assert not TorchModel(other, "other", device="cpu")._pools_as(probe)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "static"), [("int8", False), ("fp32", True)])
def test_every_bundle_keeps_its_pooling_in_float(
    clip_file: Path, tmp_path: Path, precision: str, static: bool
) -> None:
    model = make(clip_file, "transformer")
    path = export_model(model, tmp_path / "bundle", precision=precision, static=static)
    operators = {node.op_type for node in onnx.load(str(path / "pooling.onnx")).graph.node}
    assert not operators & {"MatMulInteger", "DynamicQuantizeLinear"}
    ours = BundleModel(path, cache=False)
    with torch.no_grad():
        expected = model.pool(torch.from_numpy(features(6))).numpy()
    np.testing.assert_allclose(ours.pool(features(6)), expected, rtol=1e-4, atol=1e-5)
    clips = np.random.default_rng(0).integers(0, 256, (1, 4, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        ours.encode_clips(clips)[0], ours.pool(ours.encode_frames(clips[0])[None])[0], atol=1e-3
    )


def test_a_timeline_encodes_each_frame_once_and_pools_each_window(
    exported: Callable[[str], tuple[VideoCLIP, Path]], clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = exported("transformer")
    encoded, pooled = [], []
    with Predictor(path, cache=False) as predictor:
        model = predictor.model
        encode, pool = model.encode_frames, model.pool
        monkeypatch.setattr(
            model, "encode_frames", lambda frames: encoded.append(encode(frames)) or encoded[-1]
        )
        monkeypatch.setattr(model, "pool", lambda part: pooled.append(part) or pool(part))
        found = timeline(predictor, clip_path, window=0.8, stride=0.2, fps=10)
    every = np.concatenate(encoded)
    assert len(every) == found.encoded_frames == 12
    assert [part.shape[1] for part in pooled] == [8, 8, 8]
    for number, part in enumerate(pooled):
        np.testing.assert_array_equal(part[0], every[2 * number : 2 * number + 8])


def test_triton_gets_the_pooling_as_a_model(
    exported: Callable[[str], tuple[VideoCLIP, Path]], tmp_path: Path
) -> None:
    _, path = exported("transformer")
    write_triton(path, tmp_path / "triton")
    config = (tmp_path / "triton/ga2clip_pooling/config.pbtxt").read_text()
    assert 'name: "frame_features" data_type: TYPE_FP32 dims: [ -1, 32 ]' in config
    assert 'name: "video_features" data_type: TYPE_FP32 dims: [ 32 ]' in config
    assert "video_features" not in (tmp_path / "triton/ga2clip_video/config.pbtxt").read_text()
    written = (tmp_path / "triton/ga2clip_pooling/1/model.onnx").read_bytes()
    assert written == (path / "pooling.onnx").read_bytes()


@pytest.mark.parametrize("kind", ["attention", "trend"])
def test_a_pooled_answer_is_explained_by_an_approximation(
    exported: Callable[[str], tuple[VideoCLIP, Path]], kind: str, clip_path: Path
) -> None:
    """It adds up to the score that the bundle answers with; the run says the same."""
    model, path = exported(kind)
    with (
        Predictor(path, cache=False, provider="cpu") as bundle,
        Predictor(TorchModel(model, "run", device="cpu"), classes=CLASSES) as run,
    ):
        found, theirs = (p.predict(clip_path, explain=True).explanation for p in (bundle, run))
        plain = bundle.predict(clip_path)
        scores = bundle.scorer().scores(normalise(next(bundle.encode_files([clip_path])).video[None]))[0]
    assert found.rule == theirs.rule == "approximation"
    for part, other in zip(found.classes, theirs.classes, strict=True):
        assert part.score == pytest.approx(scores[CLASSES.index(part.label)], abs=1e-5)
        assert sum(part.contributions) == pytest.approx(part.score, abs=1e-5)
        assert part.contributions == pytest.approx(other.contributions, abs=1e-3)
    assert [part.label for part in found.classes] == [label for label, _ in plain.predictions]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_teaching_works_with_temporal_pooling_and_int8(
    clip_file: Path, clip_path: Path, tmp_path: Path, precision: BundlePrecision
) -> None:
    """Examples have the features that `predict` gives their clips, alone or in a batch; both ways give one answer."""
    path = export_model(make(clip_file, "attention"), tmp_path / "bundle", precision=precision)
    files = [write_clip(tmp_path / f"{count}.mp4", frames=count) for count in (5, 9, 14)]
    shown = {"sleeping": [clip_path, files[0]], CLASSES[1]: files[1:2]}
    out = teach(path, shown, tmp_path / "taught")
    card = open_bundle(out).card
    assert (card.pooling, card.precision, card.classes[-1]) == ("graph", precision, "sleeping")
    with Predictor(path, provider="cpu", cache=False) as plain, Predictor(out, provider="cpu") as disk:
        examples = open_bundle(out).examples()
        assert examples is not None
        encoded = {clip.file: normalise(clip.video) for clip in plain.encode_files([clip_path, *files])}
        for example, feature in zip(examples.items, examples.features, strict=True):
            [file] = [file for file in encoded if file_sha256(Path(file)) == example.sha256]
            np.testing.assert_array_equal(feature, encoded[file])
        memory = plain.teach(shown)
        answers = [list(p.predict_many([clip_path, *files], batch=3)) for p in (memory, disk)]
        for ours, theirs in zip(*answers, strict=True):
            assert dict(ours.predictions) == pytest.approx(dict(theirs.predictions), abs=1e-6)
        video = encoded[str(clip_path)][None]
        expected = disk.scorer().scores(video)[0]
        answer = disk.predict(clip_path, explain=True).explanation
        assert answer.rule == "approximation"
        for part in answer.classes:
            assert part.score == pytest.approx(expected[card.classes.index(part.label)], abs=1e-5)
            assert sum(part.contributions) + part.rest == pytest.approx(part.score, abs=1e-9)
    back = teach(out, out=tmp_path / "back", forget=["sleeping", CLASSES[1]])
    assert open_bundle(back).card == open_bundle(path).card
