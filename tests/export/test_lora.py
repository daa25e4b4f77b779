"""LoRA leaves nothing in a bundle but other weights; what helps in training alone leaves nothing."""

from pathlib import Path

import onnx
import pytest
import torch

from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings
from ga2clip_export.export import export_model
from ga2clip_export.towers import FoldedTextEncoder, FoldedVideoEncoder

CLASSES = ("kicking a ball", "riding a bike", "rowing a boat")


def make(clip_file: Path, loss: dict[str, float] | None = None, **parts: object) -> VideoCLIP:
    method = {"text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2}
    tree = {"backbone": {"pretrained": str(clip_file)}, "method": method, "parts": parts, "loss": loss or {}}
    settings = Settings().updated(tree, "test")
    torch.manual_seed(1)
    model = build_model(load_backbone(settings.backbone), settings, CLASSES)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".b"):
                parameter.normal_(std=0.1)
    return model.eval()


@pytest.fixture
def model(clip_file: Path) -> VideoCLIP:
    return make(clip_file, lora={"rank": 2, "alpha": 4.0, "weights": ["q", "k", "v", "o", "mlp"]})


def test_folding_adds_no_tensor_and_leaves_the_model_as_it_was(model: VideoCLIP, clip_file: Path) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = make(clip_file)
    for folded in (FoldedVideoEncoder, FoldedTextEncoder):
        ours, without = folded(model).state_dict(), folded(plain).state_dict()
        assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in without.items()}
        changed = [name for name, value in ours.items() if not torch.equal(value, without[name])]
        assert len(changed) == 3 * 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_helps_in_training_alone_leaves_no_trace(clip_file: Path) -> None:
    model, plain = make(clip_file, loss={"froster": 2.0, "outlier_text": 8.0}), make(clip_file)
    assert {name.split(".")[1] for name in model.trainable_state()} == {
        "text_prompt",
        "vision_prompt",
        "froster",
    }
    for folded in (FoldedVideoEncoder, FoldedTextEncoder):
        ours, without = folded(model).state_dict(), folded(plain).state_dict()
        assert ours.keys() == without.keys()
        assert all(torch.equal(value, without[name]) for name, value in ours.items())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle_has_the_graph_of_the_model_without(
    model: VideoCLIP, clip_file: Path, tmp_path: Path, precision: str
) -> None:
    """That it agrees with torch is what the export itself measures and would refuse."""
    bundle = export_model(model, tmp_path / "lora", precision=precision)
    plain = export_model(make(clip_file), tmp_path / "plain", precision=precision)
    for name in ("video_encoder.onnx", "text_encoder.onnx"):
        ours, without = (
            [node.op_type for node in onnx.load(str(folder / name)).graph.node] for folder in (bundle, plain)
        )
        assert ours == without
