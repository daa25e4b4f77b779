"""LoRA against weights that were changed by hand, and gradients against those of the whole weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings

NAMES = ["riding a horse", "juggling", "playing the violin"]
NOTHING = {"text_length": 0, "vision_length": 0}
PROMPTS = {"text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2}


@pytest.fixture
def make(make_backbone: Callable[[], Backbone]) -> Callable[..., VideoCLIP]:
    """make({"rank": 2}, **method): a model with LoRA; None instead of the table: without."""

    def build(options: dict[str, Any] | None, **method: Any) -> VideoCLIP:
        parts = {} if options is None else {"lora": options}
        settings = Settings().updated({"method": {**PROMPTS, **method}, "parts": parts}, "test")
        torch.manual_seed(3)
        return build_model(make_backbone(), settings, NAMES)

    return build


def features(model: VideoCLIP) -> tuple[Tensor, Tensor]:
    video = torch.randn(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return model.encode_video(video), model.encode_classes(model.classes)


def move(model: VideoCLIP) -> None:
    """Give B values as training does."""
    with torch.no_grad():
        for name, parameter in model.parts["lora"].named_parameters():
            if name.endswith(".b"):
                parameter.normal_(std=0.2)


@pytest.mark.parametrize("method", [NOTHING, PROMPTS], ids=["alone", "with prompts"])
def test_at_the_start_the_model_is_the_one_without(
    make: Callable[..., VideoCLIP], method: dict[str, int]
) -> None:
    every = {"weights": ["q", "k", "v", "o", "mlp"], "rank": 3}
    for ours, expected in zip(features(make(every, **method)), features(make(None, **method)), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("weights", [["q"], ["k", "v"], ["o"], ["mlp"], ["q", "k", "v", "o", "mlp"]], ids=str)
@pytest.mark.parametrize("layers", [[], [2]], ids=["all layers", "the second"])
def test_features_are_those_of_weights_changed_by_hand(
    make: Callable[..., VideoCLIP], weights: list[str], layers: list[int]
) -> None:
    """W + alpha / rank · B A in open_clip's own layers: rows 0…W−1 of the packed projection are the queries."""
    model, plain = make({"rank": 2, "alpha": 3.0, "weights": weights, "layers": layers}), make(None)
    move(model)
    state = model.parts["lora"].state_dict()
    with torch.no_grad():
        for tower in ("text", "vision"):
            for number in layers or (1, 2, 3):
                block = getattr(plain.backbone, tower).blocks[number - 1]
                packed = dict(zip("qkv", block.attn.in_proj_weight.chunk(3), strict=True))
                places = {
                    **packed,
                    "o": block.attn.out_proj.weight,
                    "c_fc": block.mlp.c_fc.weight,
                    "c_proj": block.mlp.c_proj.weight,
                }
                for name, weight in places.items():
                    key = f"towers.{tower}.{number}.{name}"
                    if f"{key}.a" in state:
                        weight += 1.5 * state[f"{key}.b"] @ state[f"{key}.a"]
    for ours, expected in zip(features(model), features(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    touched = {name.split(".")[3] for name in state}
    assert touched == {w for kind in weights for w in (("c_fc", "c_proj") if kind == "mlp" else (kind,))}
    assert {int(name.split(".")[2]) for name in state} == set(layers or (1, 2, 3))


def test_gradients_follow_from_those_of_the_whole_weights(make: Callable[..., VideoCLIP]) -> None:
    """With dW the gradient of the changed weight: dB = s · dW Aᵀ and dA = s · Bᵀ dW."""
    model = make({"rank": 2, "alpha": 3.0, "weights": ["v", "mlp"]}, tune="both")
    move(model)
    video, classes = features(model)
    model.logits(video, classes)[:, 0].sum().backward()
    lora = model.parts["lora"].towers
    for tower in ("text", "vision"):
        block = getattr(model.backbone, tower).blocks[1]
        whole = {
            "v": block.attn.in_proj_weight.grad.chunk(3)[2],
            "c_fc": block.mlp.c_fc.weight.grad,
            "c_proj": block.mlp.c_proj.weight.grad,
        }
        for name, gradient in whole.items():
            change = lora[tower]["2"][name]
            assert gradient.abs().max() > 0
            torch.testing.assert_close(change.b.grad, 1.5 * gradient @ change.a.T, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(change.a.grad, 1.5 * change.b.T @ gradient, rtol=1e-4, atol=1e-6)


def test_frozen_features_are_those_of_the_untouched_backbone(make: Callable[..., VideoCLIP]) -> None:
    losses = {"text_consistency": 1.0, "image_consistency": 1.0}
    model = make({"rank": 2})
    settings = model.settings.updated({"loss": losses}, "test")
    teaching = build_model(model.backbone, settings, NAMES)
    move(teaching)
    video, labels = torch.randn(2, 3, 3, 16, 16), torch.tensor([0, 1])
    frames = teaching.backbone.vision(video.flatten(0, 1)).unflatten(0, (2, 3)).mean(dim=1)
    frozen = teaching.encode_frozen_video(video, labels)
    assert torch.equal(frozen, frames)
    assert not torch.allclose(teaching.encode_video(video), frozen, atol=1e-3)
    assert teaching.teacher is not None
    plain = make(None, **NOTHING).encode_classes(NAMES)
    torch.testing.assert_close(teaching.teacher, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("towers", [["text"], ["vision"], ["text", "vision"]], ids=str)
def test_the_towers_that_change(make: Callable[..., VideoCLIP], towers: list[str]) -> None:
    model = make({"towers": towers}, **NOTHING)
    assert [tower for tower in ("text", "vision") if model.trains(tower)] == towers
    before = features(model)
    move(model)
    same = [torch.equal(ours, old) for ours, old in zip(features(model), before, strict=True)]
    assert same == ["vision" not in towers, "text" not in towers]


def test_a_run_stores_the_low_rank_tensors_alone(make: Callable[..., VideoCLIP]) -> None:
    model = make({"rank": 2, "weights": ["q"]}, **NOTHING)
    kept = {name: tuple(value.shape) for name, value in model.trainable_state().items()}
    assert kept == {
        f"parts.lora.towers.{tower}.{number}.q.{side}": {"a": (2, 64), "b": (64, 2)}[side]
        for tower in ("text", "vision")
        for number in (1, 2, 3)
        for side in "ab"
    }


@pytest.mark.parametrize(
    ("options", "method", "said"),
    [
        ({"layers": [4]}, {}, "the text tower has the layers 1 to 3, not 4"),
        ({"weights": ["w"]}, {}, "parts.lora: setting 'weights.0'"),
        ({"rnak": 2}, {}, "unknown setting 'rnak'"),
        ({}, {**NOTHING, "linear_probe": True}, "LoRA in the text tower would not train"),
    ],
)
def test_what_does_not_go_together_is_refused(
    make: Callable[..., VideoCLIP], options: dict[str, Any], method: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make(options, **method)
