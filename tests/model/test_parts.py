"""Where each part enters, against a few lines of NumPy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings

SMALL = {"text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2}


@pytest.fixture
def make(make_backbone: Callable[[], Backbone]) -> Callable[..., VideoCLIP]:
    def build(**method: Any) -> VideoCLIP:
        settings = Settings().updated({"method": {**SMALL, "coupling_dropout": 0.0, **method}}, "test")
        torch.manual_seed(3)
        hard = torch.randn(3, 64) if settings.method.coupling != "none" else None
        return build_model(make_backbone(), settings, ["riding", "diving"], hard).double()

    return build


def arrays(model: VideoCLIP) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in model.parts.state_dict().items()}


def linear(a: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]


def coupled(a: dict[str, np.ndarray], kind: str) -> np.ndarray:
    soft, hard = a["text_prompt.layers.0"], a["coupling.hard"]
    if kind == "concat":
        return np.concatenate([hard, soft])
    mixed = np.maximum(linear(a, "coupling.mapping", np.concatenate([hard, soft], axis=1)), 0)
    if kind == "gated":
        mixed = a["coupling.gate"] * mixed
    return mixed if kind == "mapping" else mixed + soft


def assert_prompts(model: VideoCLIP, text: list[np.ndarray], vision: list[np.ndarray]) -> None:
    prompts = model.prompts()
    for ours, expected in zip([*prompts.text, *prompts.vision], [*text, *vision], strict=True):
        assert ours is not None
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["mapping", "residual", "gated", "concat"])
def test_coupling(make: Callable[..., VideoCLIP], kind: str) -> None:
    model = make(coupling=kind)
    if kind == "gated":
        torch.nn.init.normal_(model.parts["coupling"].gate)
    a = arrays(model)
    vision = [a["vision_prompt.layers.0"], a["vision_prompt.layers.1"]]
    assert_prompts(model, [coupled(a, kind), a["text_prompt.layers.1"]], vision)
    assert model.text_tokens == (6 if kind == "concat" else 3)


def test_a_gated_coupling_starts_from_the_soft_prompt_and_trains(make: Callable[..., VideoCLIP]) -> None:
    """The gate first, since nothing reaches the mapping through a gate at zero; then the mapping."""
    model = make(coupling="gated")
    part, soft = model.parts["coupling"], model.parts["text_prompt"].layers[0]
    assert torch.equal(model.prompts().text[0], soft)
    model.prompts().text[0].square().sum().backward()
    assert part.gate.grad.any()
    assert not part.mapping.weight.grad.any()
    with torch.no_grad():
        part.gate -= 0.1 * part.gate.grad
    model.prompts().text[0].square().sum().backward()
    assert part.mapping.weight.grad.any()


@pytest.mark.parametrize("kind", ["mapping", "concat"])
def test_the_map_to_vision_takes_the_coupled_prompt(make: Callable[..., VideoCLIP], kind: str) -> None:
    """But not the tokens that `concat` puts before it: there is one prompt token per mapped one."""
    model = make(coupling=kind, inter_modal="text-to-vision")
    a = arrays(model)
    source = a["text_prompt.layers.0"] if kind == "concat" else coupled(a, kind)
    vision = [
        linear(a, "inter_modal.to_vision.maps.0", source) + a["vision_prompt.layers.0"],
        linear(a, "inter_modal.to_vision.maps.1", a["text_prompt.layers.1"]) + a["vision_prompt.layers.1"],
    ]
    assert_prompts(model, [coupled(a, kind), a["text_prompt.layers.1"]], vision)


def test_mapped_prompts_replace_the_free_ones(make: Callable[..., VideoCLIP]) -> None:
    model = make(inter_modal="text-to-vision", inter_modal_free=False)
    a = arrays(model)
    text = [a["text_prompt.layers.0"], a["text_prompt.layers.1"]]
    assert_prompts(model, text, [linear(a, f"inter_modal.to_vision.maps.{i}", text[i]) for i in (0, 1)])
    assert "vision_prompt" not in model.parts


def test_both_directions_map_what_the_other_branch_had_before(make: Callable[..., VideoCLIP]) -> None:
    model = make(coupling="mapping", inter_modal="both")
    a = arrays(model)
    text = [coupled(a, "mapping"), a["text_prompt.layers.1"]]
    vision = [a["vision_prompt.layers.0"], a["vision_prompt.layers.1"]]
    assert_prompts(
        model,
        [linear(a, f"inter_modal.to_text.maps.{i}", vision[i]) + text[i] for i in (0, 1)],
        [linear(a, f"inter_modal.to_vision.maps.{i}", text[i]) + vision[i] for i in (0, 1)],
    )


def test_deep_prompts_start_from_the_phrase_or_at_random(make: Callable[..., VideoCLIP]) -> None:
    phrase = {"text_init": "riding a horse"}
    started, random = make(**phrase), make(**phrase, deep_init="random")
    words = started.backbone.text.embed(torch.tensor(started.backbone.tokenizer.encode("riding a horse")))
    for model in (started, random):
        torch.testing.assert_close(model.parts["text_prompt"].layers[0].data, words.data)
    states = started.backbone.text.prefix_states(words, started.backbone.ids([""], len(words)))
    torch.testing.assert_close(
        started.parts["text_prompt"].layers[1].data, states[1].data, rtol=1e-4, atol=1e-5
    )
    deep = random.parts["text_prompt"].layers[1]
    assert 0.015 < float(deep.detach().std()) < 0.025


def test_the_residual_networks_of_froster(make_backbone: Callable[[], Backbone]) -> None:
    """z + 0.1 · W₂ GELU(W₁ z) of the normalised feature; at the start the normalised feature itself."""
    settings = Settings().updated({"loss": {"froster": 2.0}}, "test")
    part = build_model(make_backbone(), settings, ["riding", "diving"]).double().parts["froster"]
    features = np.random.default_rng(0).normal(size=(5, 32))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for tower in ("text", "vision"):
        ours = part.student_features(tower, torch.from_numpy(features)).detach().numpy()
        np.testing.assert_allclose(ours, unit, rtol=1e-12)
        network = getattr(part, tower)
        with torch.no_grad():
            network[2].weight.normal_()
        first, second = (network[i].weight.detach().numpy() for i in (0, 2))
        hidden = unit @ first.T
        hidden *= 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        ours = part.student_features(tower, torch.from_numpy(features)).detach().numpy()
        np.testing.assert_allclose(ours, unit + 0.1 * hidden @ second.T, rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ({"vision_length": 0}, ("text",)),
        ({"text_length": 0}, ("vision",)),
        ({}, ("text", "vision")),
        ({"inter_modal": "text-to-vision", "inter_modal_free": False}, ("text", "vision")),
        ({"text_length": 0, "vision_length": 0, "linear_probe": True}, ("text",)),
        ({"text_length": 0, "vision_length": 0, "tune": "vision"}, ("vision",)),
        ({"tune": "none"}, ()),
    ],
    ids=str,
)
def test_which_towers_features_change(
    make: Callable[..., VideoCLIP], method: dict[str, Any], trained: tuple[str, ...]
) -> None:
    model = make(**method)
    assert tuple(tower for tower in ("text", "vision") if model.trains(tower)) == trained


def test_a_prompt_as_long_as_the_context_is_named_and_not_the_class(
    make_backbone: Callable[[], Backbone],
) -> None:
    backbone = make_backbone()
    longest = backbone.context_length
    with pytest.raises(UserError, match=f"a prompt of {longest} tokens leaves no room") as caught:
        backbone.ids(["a"], longest)
    assert "method.text_length" in str(caught.value.hint)
