"""Temporal poolings against NumPy, at their start, reversed, and with other numbers of frames."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ga2clip.model.backbone import Backbone
from ga2clip.model.pooling import spread
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings

NAMES = ["riding a horse", "juggling", "playing the violin"]
KINDS = ("trend", "attention", "transformer")
Make = Callable[..., VideoCLIP]


def move(model: VideoCLIP, by: float = 0.1) -> None:
    """Change what the pooling has learned, as training does from zero."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".pooling_" in name and name.endswith(("gate", "output.weight")):
                parameter.add_(by * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def make(make_backbone: Callable[[], Backbone]) -> Make:
    def build(kind: str, frames: int = 4, **method: object) -> VideoCLIP:
        tree = {
            "method": {"text_length": 2, "vision_length": 2, "pooling": kind, **method},
            "data": {"frames": frames},
        }
        torch.manual_seed(3)
        return build_model(make_backbone(), Settings().updated(tree, "test"), NAMES)

    return build


def features(frames: int) -> Tensor:
    return torch.randn(2, frames, 32, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_it_is_the_mean(make: Make, kind: str) -> None:
    model, plain = make(kind), make("mean")
    video = torch.randn(2, 3, 3, 16, 16)
    torch.testing.assert_close(model.encode_video(video), plain.encode_video(video), rtol=0, atol=1e-6)
    assert model.pools
    assert not plain.pools


@pytest.mark.parametrize("frames", [1, 3, 4, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_and_its_reverse(make: Make, kind: str, frames: int) -> None:
    model = make(kind)
    move(model)
    there, back = model.pool(features(frames)), model.pool(features(frames).flip(1))
    assert torch.isfinite(there).all()
    assert torch.allclose(there, back, atol=1e-6) == (frames == 1)
    plain = make("mean")
    torch.testing.assert_close(plain.pool(features(frames)), plain.pool(features(frames).flip(1)))


def test_positions_are_spread_over_the_video() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert spread(rows, torch.zeros(1, 4, 1)).flatten().tolist() == [0, 1, 2, 3]
    # Middles of halves of the video lie between rows, those of eighths behind the outer rows stay there.
    assert spread(rows, torch.zeros(1, 2, 1)).flatten().tolist() == [0.5, 2.5]
    assert spread(rows, torch.zeros(1, 1, 1)).flatten().tolist() == [1.5]
    assert spread(rows, torch.zeros(1, 8, 1)).flatten().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def numpy_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, eps: float) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def numpy_transformer(x: np.ndarray, s: dict[str, np.ndarray], heads: int = 1) -> np.ndarray:
    """Pre-norm blocks with QuickGELU, as the authors of Text4Vis have them; positions of as many frames."""
    y = x + s["positions"]
    layers = {name.split(".")[1] for name in s if name.startswith("blocks.")}
    for layer in sorted(layers):
        b = f"blocks.{layer}"
        packed = (
            numpy_norm(y, s, f"{b}.ln_1", 1e-12) @ s[f"{b}.attn.in_proj_weight"].T
            + s[f"{b}.attn.in_proj_bias"]
        )
        q, k, v = (np.stack(np.split(part, heads, axis=-1)) for part in np.split(packed, 3, axis=-1))
        mixed = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), -1) @ v
        y = (
            y
            + np.concatenate(list(mixed), axis=-1) @ s[f"{b}.attn.out_proj.weight"].T
            + s[f"{b}.attn.out_proj.bias"]
        )
        hidden = numpy_norm(y, s, f"{b}.ln_2", 1e-12) @ s[f"{b}.mlp.c_fc.weight"].T + s[f"{b}.mlp.c_fc.bias"]
        hidden = hidden / (1 + np.exp(-1.702 * hidden))
        y = y + hidden @ s[f"{b}.mlp.c_proj.weight"].T + s[f"{b}.mlp.c_proj.bias"]
    return x.mean(0) + s["gate"] * y.mean(0)


def numpy_trend(x: np.ndarray, s: dict[str, np.ndarray]) -> np.ndarray:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    slope = np.polyfit((np.arange(len(x)) + 0.5) / len(x), y, deg=1)[0]
    return x.mean(0) + s["output.weight"] @ slope


def numpy_attention(x: np.ndarray, s: dict[str, np.ndarray]) -> np.ndarray:
    y = numpy_norm(x, s, "norm", 1e-5)
    weights = softmax(y @ s["queries"].T + s["moments"], 0)
    return x.mean(0) + s["output.weight"] @ np.concatenate([w @ y for w in weights.T])


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_its_formula_says(make: Make, kind: str) -> None:
    model = make(kind, pooling_layers=2).double()
    move(model)
    state = {name: value.numpy() for name, value in model.parts[f"pooling_{kind}"].state_dict().items()}
    with torch.no_grad():
        ours = model.pool(features(4).double()).numpy()
    for given, pooled in zip(features(4).double().numpy(), ours, strict=True):
        twin = {"trend": numpy_trend, "attention": numpy_attention, "transformer": numpy_transformer}[kind]
        expected = twin(given, state)
        np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)  # moments of time are float32


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(make: Make, kind: str) -> None:
    model = make(kind).double()
    move(model)
    parameters = list(model.parts[f"pooling_{kind}"].parameters())
    assert all(parameter.requires_grad for parameter in parameters)

    def pooled(*_: Tensor) -> Tensor:
        return model.pool(features(3)[:1].double())

    assert torch.autograd.gradcheck(pooled, parameters, fast_mode=True)
    model.pool(features(3).double()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_videos_are_means(make: Make, kind: str) -> None:
    model = make(kind)
    model = build_model(
        model.backbone, model.settings.updated({"loss": {"image_consistency": 1.0}}, "t"), NAMES
    )
    move(model)
    video, labels = torch.randn(2, 3, 3, 16, 16), torch.tensor([0, 1])
    frames = model.backbone.vision(video.flatten(0, 1)).unflatten(0, (2, 3))
    assert torch.equal(model.encode_frozen_video(video, labels), frames.mean(dim=1))
    assert not model.trains("text") or model.settings.method.text_length


@pytest.mark.parametrize("kind", KINDS)
def test_a_pooling_leaves_the_vision_tower_frozen(make: Make, kind: str) -> None:
    model = make(kind, text_length=0, vision_length=0)
    assert not model.trains("vision")
    assert not model.trains("text")
    assert {name.split(".")[1] for name in model.trainable_parameters()} == {f"pooling_{kind}"}
