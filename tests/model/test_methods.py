"""Each method and each part: what trains, and that every loss weight and part reaches the gradients."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.frozen_text import frozen_text_features
from ga2clip.model.method_table import method_table
from ga2clip.model.methods import METHODS, get_method, method_settings
from ga2clip.model.overview import built_table
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings

NAMES = ["riding a horse", "juggling", "diving"]
SMALL = {"method": {"text_length": 4, "vision_length": 4, "coupling_dropout": 0.0}}


def make(backbone: Backbone, *trees: dict[str, Any]) -> VideoCLIP:
    settings = Settings().updated(SMALL, "test")
    for tree in trees:
        settings = settings.updated(tree, "test")
    torch.manual_seed(1)
    hard = torch.randn(settings.method.text_length, 64) if settings.method.coupling != "none" else None
    return build_model(backbone, settings, NAMES, hard)


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(5, 2, 3, 16, 16), torch.tensor([0, 1, 2, -1, -1])


def gradients(model: VideoCLIP) -> dict[str, Tensor]:
    model.zero_grad()
    model.losses(*batch()).total.backward()
    return {n: p.grad.clone() for n, p in model.trainable_parameters().items() if p.grad is not None}


def differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.fixture
def backbone(make_backbone: Callable[[], Backbone]) -> Backbone:
    return make_backbone()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_its_parts_and_only_those(name: str, backbone: Backbone) -> None:
    settings = Settings().updated(method_settings(name), "test")
    small = {k: 4 for k in ("text_length", "vision_length") if getattr(settings.method, k)}
    model = make(backbone, method_settings(name), {"method": {**small, "coupling_dropout": 0.0}})
    parameters = model.trainable_parameters()
    assert all(n.startswith("parts.") for n in parameters)
    assert bool(parameters) == (name != "zero-shot")
    if parameters:
        found = gradients(model)
        assert found.keys() == parameters.keys()
        assert all(g.abs().max() > 0 for g in found.values())


@pytest.mark.parametrize(
    "part",
    [
        {"loss": {"scenario": 1.0}},
        {"loss": {"kgcoop": 1.0}},
        {"loss": {"text_consistency": 1.0}},
        {"loss": {"image_consistency": 1.0}},
        {"loss": {"logit_consistency": 1.0}},
        {"loss": {"label_smoothing": 0.1}},
        {"anchors": {"weight": 1.0, "loss": "margin"}},
        {"anchors": {"weight": 1.0, "loss": "contrast"}},
        {"anchors": {"weight": 1.0, "loss": "preserve"}},
        {"anchors": {"weight": 1.0, "per_step": 0}},
    ],
    ids=str,
)
def test_every_loss_weight_moves_the_gradients(part: dict[str, Any], backbone: Backbone) -> None:
    assert differ(gradients(make(backbone)), gradients(make(backbone, part))) > 1e-6


def test_published_anchor_term_moves_nothing_but_ours_does(
    backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    published = {"anchors": {"weight": 1.0, "loss": "published", "negatives": ["else"]}}
    plain = gradients(make(backbone))
    with caplog.at_level(logging.WARNING):
        inert = gradients(make(backbone, published))
    ours = gradients(make(backbone, published, {"anchors": {"loss": "margin"}}))
    largest = max(g.abs().max().item() for g in plain.values())
    assert differ(plain, inert) < 1e-5 * largest
    assert differ(plain, ours) > 1e-3 * largest
    assert "changes no gradient" in caplog.text


def test_anchors_that_preserve_ask_nothing_of_a_model_that_has_not_changed(backbone: Backbone) -> None:
    preserve = {"anchors": {"weight": 1.0, "loss": "preserve"}}
    unchanged = make(backbone, preserve, {"method": {"text_length": 0, "vision_length": 0}})
    assert unchanged.losses(*batch()).terms["anchor"].abs() < 1e-5
    assert make(backbone, preserve).losses(*batch()).terms["anchor"] > 1e-3


def test_published_anchor_term_is_for_one_negative(backbone: Backbone) -> None:
    model = make(
        backbone, {"anchors": {"weight": 1.0, "loss": "published", "negatives": ["else", "nothing"]}}
    )
    with pytest.raises(UserError, match="one negative prompt"):
        model.losses(*batch())


@pytest.mark.parametrize("kind", ["concat", "mapping", "residual"])
def test_coupling_uses_the_hard_prompt(kind: str, backbone: Backbone) -> None:
    model = make(backbone, {"method": {"coupling": kind}})
    before = model.encode_classes(NAMES)
    model.parts.coupling.hard.neg_()
    assert (model.encode_classes(NAMES) - before).abs().max() > 1e-4


@pytest.mark.parametrize(("direction", "reached"), [("text-to-vision", "vision"), ("vision-to-text", "text")])
def test_inter_modal_map_carries_prompts_across(direction: str, reached: str, backbone: Backbone) -> None:
    model = make(backbone, {"method": {"inter_modal": direction}})
    source = model.parts.text_prompt if reached == "vision" else model.parts.vision_prompt
    before = [p.detach().clone() for p in getattr(model.prompts(), reached)]
    with torch.no_grad():
        for layer in source.layers:
            layer.add_(1.0)
    after = getattr(model.prompts(), reached)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(after, before, strict=True))


def test_both_directions_at_once(backbone: Backbone) -> None:
    model = make(backbone, {"method": {"inter_modal": "both"}})
    assert {
        "parts.inter_modal.to_vision.maps.0.weight",
        "parts.inter_modal.to_text.maps.0.weight",
    } <= gradients(model).keys()


@pytest.mark.parametrize("tune", ["vision", "text", "both"])
def test_tuning_a_tower_trains_it(tune: str, backbone: Backbone) -> None:
    model = make(backbone, {"method": {"tune": tune}})
    found = gradients(model)
    for tower in ("vision", "text"):
        assert any(n.startswith(f"backbone.{tower}.") for n in found) == (tune in (tower, "both"))


def test_interpolating_with_the_original(make_backbone: Callable[[], Backbone]) -> None:
    model = make(make_backbone(), {"method": {"tune": "vision"}})
    original = make_backbone()
    weight = model.backbone.vision.visual.proj
    with torch.no_grad():
        weight.add_(1.0)
    model.interpolate_backbone(original, 0.25)
    torch.testing.assert_close(weight.detach(), original.vision.visual.proj + 0.25)


def test_parts_of_a_batch_add_up_to_the_whole(backbone: Backbone) -> None:
    everything = {
        "loss": {"scenario": 1.0, "kgcoop": 1.0, "image_consistency": 1.0, "logit_consistency": 1.0},
        "anchors": {"weight": 1.0},
    }
    model = make(backbone, everything)
    video, labels = batch()
    whole = model.losses(video, labels)
    classes = model.encode_classes(NAMES)
    features, frozen = model.encode_video(video), model.encode_frozen_video(video, labels)
    parts = [
        model.objective(features[p], labels[p], classes, frozen_video=frozen[p], counts=(3, 2))
        for p in ([0, 3], [1], [2, 4])
    ]
    torch.testing.assert_close(torch.stack([p.total for p in parts]).sum(), whole.total)
    for name, value in whole.terms.items():
        torch.testing.assert_close(torch.stack([p.terms[name] for p in parts]).sum(), value)


def test_a_subset_of_classes_is_scored_under_its_own_labels(backbone: Backbone) -> None:
    model = make(backbone, {"loss": {"scenario": 1.0}})
    features, labels = torch.randn(2, 32), torch.tensor([2, 0])
    ids = torch.tensor([0, 2])
    output = model.objective(features, labels, model.encode_classes([NAMES[0], NAMES[2]]), class_ids=ids)
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([1, 0]))
    torch.testing.assert_close(output.terms["cross_entropy"], expected)


def test_state_round_trip_is_strict(make_backbone: Callable[[], Backbone]) -> None:
    coupled = {"method": {"coupling": "mapping"}}
    model = make(make_backbone(), coupled)
    with torch.no_grad():
        model.parts.text_prompt.layers[0].add_(1.0)
    state = model.trainable_state()
    other = make(make_backbone(), coupled)
    other.load_trainable_state(state, "state")
    torch.testing.assert_close(other.encode_classes(NAMES), model.encode_classes(NAMES))
    del state["parts.coupling.mapping.bias"]
    with pytest.raises(UserError, match=r"missing: parts\.coupling\.mapping\.bias"):
        other.load_trainable_state(state, "state")


def test_linear_probe_knows_its_classes_and_leaves_others_frozen(backbone: Backbone) -> None:
    model = make(backbone, method_settings("linear-probe"))
    with torch.no_grad():
        model.parts.linear_probe.weight.add_(1.0)
    rows = model.encode_classes(["juggling", "flying a kite"])
    torch.testing.assert_close(rows[0], model.parts.linear_probe.weight[1])
    torch.testing.assert_close(
        rows[1], frozen_text_features(backbone, ["a video of a person doing flying a kite."])[0]
    )


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"method": {"coupling": "mapping", "text_length": 0}}, "coupling needs a soft text prompt"),
        ({"method": {"inter_modal": "both", "vision_length": 2}}, "one length"),
        ({"method": {"tune": "vision"}, "loss": {"image_consistency": 1.0}}, "frozen vision tower"),
        ({"method": {"linear_probe": True}}, "takes no prompts"),
        ({"method": {"tune": "both"}, "anchors": {"weight": 1.0, "loss": "preserve"}}, "frozen vision tower"),
        (
            {"anchors": {"weight": 1.0, "loss": "preserve", "per_step": 0}},
            "are needed by the loss term anchor$",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(
    tree: dict[str, Any], message: str, backbone: Backbone
) -> None:
    settings = Settings().updated(SMALL, "test").updated(tree, "test")
    with pytest.raises(UserError, match=message):
        build_model(backbone, settings, NAMES, torch.randn(4, 64))


def test_hard_prompt_of_another_length_is_refused(backbone: Backbone) -> None:
    settings = Settings().updated(SMALL, "test").updated({"method": {"coupling": "mapping"}}, "test")
    with pytest.raises(UserError, match="7 tokens") as caught:
        build_model(backbone, settings, NAMES, torch.randn(7, 64))
    assert "text_length=7" in str(caught.value.hint)


def test_too_long_a_class_name_is_an_error_not_a_cut(backbone: Backbone) -> None:
    with pytest.raises(UserError, match="too long for the context"):
        make(backbone).encode_classes(["very " * 80 + "long"])


def test_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        get_method("vlit")
    assert "did you mean 'vilt'" in str(caught.value.hint)


def test_the_stored_table_is_that_of_the_methods() -> None:
    """`ga2clip methods` reads it without torch; `make docs` writes it anew."""
    assert method_table() == built_table()
