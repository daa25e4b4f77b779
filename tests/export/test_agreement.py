"""A bundle answers as torch does, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip_export import export, footage, towers, verify
from ga2clip_export.runtime import Predictor
from ga2clip_export.runtime.engine import open_engine

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
        prompted = model.encode_frames(pixels).numpy()
    np.testing.assert_allclose(features, prompted, atol=2e-5)
    assert np.abs(features - unprompted).max() > 0.01


def test_a_text_gives_the_same_feature_alone_padded_and_at_full_length(bundle) -> None:
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        longest = " ".join(["run"] * (77 - 4 - 3))  # 4 prompt positions, start, end, full stop
        together = predictor.encode_classes(["a", longest, "riding a horse"])
        alone = [predictor.encode_classes([name])[0] for name in ("a", longest, "riding a horse")]
        with pytest.raises(UserError, match="too long for the context"):
            predictor.encode_classes([longest + " run"])
    np.testing.assert_allclose(together, np.stack(alone), atol=2e-6)


def test_predicts_where_torch_cannot_be_imported(bundle, clip_path, tmp_path) -> None:
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "open_clip", "onnx", "onnxscript", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import json
from ga2clip_export.runtime import Predictor
from ga2clip_export.runtime.engine import open_engine
with Predictor(sys.argv[1], provider="cpu") as predictor:
    bank = predictor.predict(sys.argv[2])
    new = predictor.predict(sys.argv[2], classes=["juggling", "sleeping"], template="somebody {}")
print(json.dumps([bank.to_json(), new.to_json()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle), str(clip_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "GA2CLIP_CACHE": str(tmp_path)},
    )
    bank, new = json.loads(done.stdout)
    assert {entry["label"] for entry in new["predictions"]} == {"juggling", "sleeping"}
    assert bank["frames"] == 8
    assert done.stderr == ""


@pytest.mark.slow
def test_an_encoder_that_disagrees_leaves_nothing(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(towers._Constants, "layers", lambda self: [])  # as if the prompts were lost
    with pytest.raises(UserError, match="does not agree with torch"):
        export.export_model(model, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("what", ["frame_features", "text_features"])
def test_the_gate_sees_each_difference(model, bundle, what) -> None:
    clips = footage.built_in(model.preprocess, 4, 3)
    expected = verify.reference(model, clips, placeholder=343)
    getattr(expected, what)[1] *= -1
    engines = [open_engine(bundle / f"{name}_encoder.onnx", "cpu") for name in ("video", "text")]
    agreement = verify.measure(*engines, expected, context=77, precision="fp32", static=False)
    with pytest.raises(UserError, match=what):
        verify.check(agreement, "fp32")


def test_a_folder_that_is_no_bundle_is_left_alone(model, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UserError, match="is not a bundle"):
        export.export_model(model, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_the_card_says_what_was_measured_and_where_the_weights_are_from(bundle: Path) -> None:
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert card["schema_version"] == 1
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
