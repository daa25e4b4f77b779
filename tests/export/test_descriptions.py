"""A bundle of a model with class descriptions: folded into its bank, carried by its card, equal to torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.settings import Settings
from ga2clip_export import verify
from ga2clip_export.export import export_backbone, export_model

CLASSES = ("kicking a ball", "riding a bike", "rowing a boat")
SENTENCES = {
    "kicking a ball": ["a foot meets a ball.", "somebody runs after a ball", "goal!"],
    "Riding-a-bike": [],
    "running": ["legs in a hurry", "somebody is late."],
}
NEW = {"sleeping": ["eyes are shut", "nobody moves."], "waking up": [], "riding a bike": ["two wheels"]}


@pytest.fixture(scope="module")
def model(clip_file: Path) -> VideoCLIP:
    method = {"name": "ivlp", "text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2}
    tree = {"backbone": {"pretrained": str(clip_file)}, "method": method, "descriptions": SENTENCES}
    settings = Settings().updated(tree, "test")
    torch.manual_seed(1)
    model = build_model(load_backbone(settings.backbone), settings, CLASSES)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def test_the_bundle_answers_as_torch_does(model: VideoCLIP, tmp_path: Path) -> None:
    bundle = open_bundle(export_model(model, tmp_path / "bundle"))
    assert {name: list(own) for name, own in bundle.card.descriptions.items()} == SENTENCES
    assert (
        bundle.card.agreement.texts == 5 + 2
    )  # five class texts; of the three phrases "running" is described
    questions = (list(CLASSES), ["running", "jumping"], NEW, [*CLASSES, "running"])
    with (
        Predictor(bundle.path, provider="cpu", threads=1, cache=False) as onnx,
        Predictor(TorchModel(model, "memory", device="cpu")) as torch_side,
    ):
        for question in questions:
            ours, theirs = onnx.encode_classes(question), torch_side.encode_classes(question)
            np.testing.assert_allclose(ours, theirs, atol=2e-5)
            np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
        known, told = (torch_side.encode_classes(names)[0] for names in (["riding a bike"], NEW))
        assert np.abs(known - told).max() > 1e-3
        assert np.array_equal(onnx.encode_classes(CLASSES), bundle.text_bank().features)


def test_fingerprints_know_the_sentences(model: VideoCLIP) -> None:
    before = TorchModel(model, "memory", device="cpu").fingerprint
    settings = model.settings
    model.settings = settings.updated({"descriptions": {"running": ["x"]}}, "test")
    assert TorchModel(model, "memory", device="cpu").fingerprint != before
    model.settings = settings
    assert TorchModel(model, "memory", device="cpu").fingerprint == before


def test_the_agreement_check_runs_on_sentences(model: VideoCLIP) -> None:
    clips = np.zeros((1, 1, 16, 16, 3), np.uint8)
    expected = verify.reference(model, clips, placeholder=320)
    tokens = model.backbone.tokenizer.encode("somebody runs after a ball")
    assert any(row[1 + model.text_tokens : -1].tolist() == tokens for row in expected.ids)


def test_a_backbone_takes_its_classes_with_their_sentences(clip_file: Path, tmp_path: Path) -> None:
    """The stored row is the mean of the normalised features of the sentences, as torch has them, whatever the size of
    the frames is."""
    classes = {"kicking a ball": SENTENCES["kicking a ball"], "riding a bike": ()}
    where = {"pretrained": str(clip_file), "frames": 2}
    described = open_bundle(export_backbone("", tmp_path / "told", classes=classes, **where))
    plain = open_bundle(
        export_backbone("", tmp_path / "plain", classes=list(classes), image_size=32, **where)
    )
    assert (described.card.preprocess.size, plain.card.preprocess.size) == (16, 32)
    assert {name: list(own) for name, own in described.card.descriptions.items()} == {
        "kicking a ball": SENTENCES["kicking a ball"]
    }
    with Predictor(plain.path, provider="cpu", threads=1, cache=False) as predictor:
        expected = predictor.encode_classes(classes)
    np.testing.assert_allclose(described.text_bank().features, expected, atol=2e-5)
    np.testing.assert_allclose(described.text_bank().features[1], plain.text_bank().features[1], atol=1e-6)
