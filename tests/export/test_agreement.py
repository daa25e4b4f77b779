"""A bundle answers as torch does, without torch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.part import Part
from ga2clip.model.video_clip import build_model
from ga2clip.run import load_run, write_run
from ga2clip.runtime import Predictor
from ga2clip.runtime.engine import open_engine
from ga2clip.runtime.onnx_scan import read_graph
from ga2clip.settings import BackboneSettings, Settings
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export import calibration_clips, export, towers, verify
from tests.layouts import as_modules

NEW_CLASSES = [
    "juggling",
    "opening a large umbrella in the rain while somebody watches",
    "tai chi – 太極拳",
    "a",
]


def torch_probabilities(model, frames: np.ndarray, names) -> np.ndarray:
    with torch.no_grad():
        video = torch.from_numpy(model.preprocess.normalise(model.preprocess.frames(frames)))[None]
        logits = model.logits(model.encode_video(video), model.encode_classes(list(names)))
        return logits.softmax(dim=-1)[0].double().numpy()


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("names", [None, NEW_CLASSES])
def test_probabilities_equal_torch(model, bundle, frames, names) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        answer = dict(predictor.predict_frames(frames, names, top=99).predictions)
    labels = names or model.classes
    expected = torch_probabilities(model, frames, labels)
    np.testing.assert_allclose([answer[label] for label in labels], expected, atol=1e-4)
    assert sum(answer.values()) == pytest.approx(1)


def test_prompts_and_normalisation_are_inside_the_graphs(model, bundle, frames) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        features = predictor.encode_frames(predictor.prepare(frames))
    with torch.no_grad():
        pixels = torch.from_numpy(model.preprocess.normalise(model.preprocess.frames(frames)))
        unprompted = model.backbone.vision(pixels).numpy()
        prompted = model.encode_frames(pixels[None])[0].numpy()
    np.testing.assert_allclose(features, prompted, atol=2e-5)
    assert np.abs(features - unprompted).max() > 0.01


@pytest.mark.parametrize("name", ["video_encoder.onnx", "text_encoder.onnx"])
def test_a_graph_holds_nothing_that_only_takes_time_to_read(bundle: Path, name: str) -> None:
    """Shapes between nodes, which are as many as all the rest, and notes of the tools."""
    graph = read_graph(bundle / name)
    assert graph.inside == {}
    assert len(graph.nodes) > 20


def test_a_text_gives_the_same_feature_alone_padded_and_at_full_length(bundle) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        longest = " ".join(["run"] * (77 - 4 - 3))  # 4 prompt positions, start, end, full stop
        together = predictor.encode_classes(["a", longest, "riding a horse"])
        alone = [predictor.encode_classes([name])[0] for name in ("a", longest, "riding a horse")]
        with pytest.raises(UserError, match="too long for the context"):
            predictor.encode_classes([longest + " run"])
    np.testing.assert_allclose(together, np.stack(alone), atol=2e-6)


def test_predicts_where_torch_cannot_be_imported(bundle, clip_path, predict_without_torch) -> None:
    new = {"classes": ["juggling", "sleeping"], "template": "somebody {}"}
    of_the_bank, of_new_ones = predict_without_torch(bundle, clip_path, {}, new)
    assert {entry["label"] for entry in of_new_ones["predictions"]} == {"juggling", "sleeping"}
    assert of_the_bank["frames"] == 8


@pytest.mark.slow
def test_an_encoder_that_disagrees_leaves_nothing(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(towers._Constants, "layers", lambda self: [])  # as if the prompts were lost
    with pytest.raises(UserError, match="does not agree with torch"):
        export.export_model(model, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("what", ["frame_features", "text_features"])
def test_the_gate_sees_each_difference(model, bundle, what) -> None:
    clips = calibration_clips.built_in(model.preprocess, 4, 3)
    expected = verify.reference(model, clips, placeholder=343)
    getattr(expected, what)[1] *= -1
    engines = [open_engine(bundle / f"{name}_encoder.onnx", "cpu") for name in ("video", "text")]
    agreement = verify.measure(*engines, None, expected, context=77, precision="fp32", static=False)
    with pytest.raises(UserError, match=what):
        verify.check(agreement, "fp32")


@pytest.mark.slow
def test_a_run_on_weights_in_openais_format_leaves_the_lab(
    clip_weights, tmp_path, clip_path, predict_without_torch
) -> None:
    """A TorchScript archive in halves, with the numbers beside the weights that OpenAI's files have."""
    archive = tmp_path / "openai.pt"
    torch.jit.script(as_modules(clip_weights, 16)).save(str(archive))
    backbone = load_backbone(BackboneSettings(pretrained=str(archive)))
    settings = Settings().updated(
        {**method_settings("ga2"), "backbone": {"pretrained": str(archive)}}, "test"
    )
    hard = torch.randn(settings.method.text_length, backbone.text.width)
    run = write_run(
        tmp_path / "run", settings, build_model(backbone, settings, ("running", "sleeping"), hard)
    )
    out = export.export_run(run)
    model = load_run(run).model()
    (answer,) = predict_without_torch(out, clip_path, {"classes": NEW_CLASSES})
    film = sample_frames(clip_path, SamplingRule(frames=settings.data.frames)).frames
    expected = torch_probabilities(model, film, NEW_CLASSES)
    found = {row["label"]: row["probability"] for row in answer["predictions"]}
    assert found == pytest.approx(dict(zip(NEW_CLASSES, expected, strict=True)), abs=1e-4)


def test_a_folder_that_is_no_bundle_is_left_alone(model, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UserError, match="is not a bundle"):
        export.export_model(model, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_the_card_says_what_was_measured_and_where_the_weights_are_from(bundle: Path) -> None:
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert card["schema_version"] == 3
    assert card["method"] == "ga2"
    assert card["agreement"]["outputs"]["video_features"]["min_cosine"] > 0.99999
    assert set(card["files"]) == {path.name for path in bundle.iterdir()} - {"bundle.json"}
    for path in bundle.glob("*.onnx"):
        assert str(Path(export.__file__).parent).encode() not in path.read_bytes()  # no paths of this machine


def test_a_model_that_diverged_is_not_exported(make_model, tmp_path) -> None:
    broken = make_model()
    with torch.no_grad():
        next(iter(broken.trainable_parameters().values())).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        export.export_model(broken, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


class _Shifted(Part):
    """A part that changes the features of every name, which a bundle cannot do."""

    trains = frozenset({"text"})

    def class_features(self, names, encode):
        return encode(names) + 1.0


def test_a_part_that_changes_names_it_was_not_tuned_on_is_not_exported(make_model) -> None:
    model = make_model("zero-shot")
    clips = calibration_clips.built_in(model.preprocess, 2, 1)
    verify.reference(model, clips, placeholder=343)
    model.parts["shifted"] = _Shifted()
    model._in_order = (model.parts["shifted"],)
    with pytest.raises(UserError, match="names that it was not tuned on") as caught:
        verify.reference(model, clips, placeholder=343)
    assert "text_features" in (caught.value.hint or "")
