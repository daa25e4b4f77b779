"""Settings that would do nothing are refused or named, and those that do something are neither."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from ga2clip.errors import UserError
from ga2clip.model.methods import METHODS
from ga2clip.training.configure import authors_methods, configure
from ga2clip.training.idle import idle_settings, refuse_untrained
from ga2clip.training.train import make_model, summary
from tests.small_training import BASE

Make = Callable[..., Any]
LORA = {"parts": {"lora": {"rank": 2}}}
POOLED = {"method": {"pooling": "attention"}}
TRAINED = {"method": {"tune": "prompts"}}


@pytest.mark.parametrize("protocol", ["zero-shot", "few-shot"])
@pytest.mark.parametrize(
    ("sections", "named"),
    [
        (LORA, "parts.lora"),
        (POOLED, "method.pooling"),
        ({"method": {"pooling": "trend"}, **LORA}, "method.pooling, parts.lora"),
        ({"method": {"text_length": 2}}, "method.text_length"),
        ({"method": {"linear_probe": True}}, "method.linear_probe"),
    ],
)
def test_a_part_that_would_stay_as_it_starts_is_refused(
    settings: Make, protocol: str, sections: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=f"trains nothing: .*{named}") as caught:
        summary(settings("zero-shot", **sections).updated({"data": {"protocol": protocol}}, "test"))
    assert caught.value.hint


def test_a_zero_shot_model_has_no_tower_to_tune(settings: Make) -> None:
    with pytest.raises(UserError, match=r"\(method\.tune\)"):
        refuse_untrained(settings("zero-shot", method={"tune": "both"}, data={"protocol": "zero-shot"}))


@pytest.mark.parametrize(
    ("method", "sections", "setting"),
    [
        ("vpt", {"loss": {"kgcoop": 1.0}}, "loss.kgcoop"),
        ("vpt", {"loss": {"text_consistency": 1.0}}, "loss.text_consistency"),
        ("vpt", {"loss": {"scenario": 1.0}}, "loss.scenario"),
        ("ivlp", {"loss": {"kgcoop": 1.0}, "method": {"text_length": 0}}, "loss.kgcoop"),
        ("coop", {"loss": {"image_consistency": 1.0}}, "loss.image_consistency"),
        ("linear-probe", {"loss": {"image_consistency": 1.0}}, "loss.image_consistency"),
        ("zero-shot", {"method": {"tune": "text"}, "loss": {"image_consistency": 1.0}}, "loss.image_con"),
        ("zero-shot", {"loss": {"kgcoop": 1.0}}, "loss.kgcoop"),
        ("zero-shot", {"loss": {"froster": 1.0}}, "loss.froster"),
        ("zero-shot", {"loss": {"logit_consistency": 1.0}}, "loss.logit_consistency"),
        ("zero-shot", {"anchors": {"weight": 1.0}}, "anchors.weight"),
    ],
)
def test_a_term_without_a_gradient_is_refused(
    settings: Make, method: str, sections: dict[str, Any], setting: str
) -> None:
    with pytest.raises(UserError, match=f"^{setting}.* would do nothing") as caught:
        make_model(settings(method, **sections), BASE)
    assert f"set {setting}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("method", "sections"),
    [
        *((name, {}) for name in METHODS),
        ("zero-shot", {"method": {"teach": True}}),
        ("zero-shot", {"method": {"tune": "both", "interpolate": 0.5}}),
        ("zero-shot", {"method": {"tune": "vision"}, "anchors": {"weight": 1.0}}),
        ("zero-shot", {**TRAINED, **LORA, "loss": {"kgcoop": 1.0, "image_consistency": 1.0}}),
        ("coop", {**POOLED, "loss": {"image_consistency": 1.0}}),
        ("vpt", {"loss": {"logit_consistency": 1.0}, "method": {"interpolate_parts": 0.5}}),
        ("linear-probe", {"loss": {"kgcoop": 1.0}, "average": {"kind": "gaussian", "mean": 2.0}}),
        ("coop", {"loss": {"outlier_text": 1.0}, "outliers": {"per_step": 5}}),
        ("ivlp", {"loss": {"froster": 1.0}, "anchors": {"weight": 1.0, "margin": 0.2, "every": 2}}),
        ("ivlp", {"anchors": {"weight": 1.0, "loss": "contrast", "per_step": 0, "margin": 0.2}}),
        ("ivlp", {"method": {"pooling": "transformer", "pooling_layers": 2, "text_depth": 2}}),
    ],
)
def test_what_does_something_is_neither_refused_nor_named(
    settings: Make, method: str, sections: dict[str, Any]
) -> None:
    chosen = settings(method, **sections)
    refuse_untrained(chosen)
    assert list(idle_settings(make_model(chosen, BASE))) == []


@pytest.mark.parametrize(
    ("method", "sections", "said"),
    [
        ("zero-shot", {"average": {"kind": "uniform"}}, "average.kind (needs a method that trains)"),
        ("zero-shot", {"method": {"interpolate_parts": 0.5}}, "method.interpolate_parts (needs parts that"),
        ("coop", {"method": {"interpolate": 0.5}}, "method.interpolate (needs method.tune=vision, text or b"),
        ("coop", {"outliers": {"per_step": 5}}, "outliers.per_step (needs loss.outlier_text)"),
        ("coop", {"average": {"mean": 2.0}}, "average.mean (needs average.kind=gaussian)"),
        (
            "coop",
            {"average": {"kind": "uniform", "decay": 0.5}},
            "average.decay (needs average.kind=exponential)",
        ),
        ("coop", {"method": {"pooling_layers": 6}}, "method.pooling_layers (needs method.pooling=trans"),
        ("ga2", {"anchors": {"loss": "contrast", "margin": 0.5}}, "anchors.margin (needs anchors.weight"),
        ("ivlp", {"anchors": {"every": 3}}, "anchors.every (needs anchors.weight above 0)"),
        ("vpt", {"method": {"text_init": "a clip of"}}, "method.text_init (needs method.text_length"),
        ("vpt", {"loss": {"froster": 1.0}}, "half of loss.froster for the text side"),
        ("coop", {"loss": {"froster": 1.0}}, "half of loss.froster for the vision side"),
    ],
)
def test_a_setting_without_effect_is_named_in_one_warning(
    settings: Make, method: str, sections: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    summary(settings(method, **sections))
    (line,) = [r.getMessage() for r in caplog.records if "without effect" in r.getMessage()]
    assert line.startswith("without effect in this training: ")
    assert said in line
    assert ";" not in line


def test_no_recipe_and_no_preset_gives_what_is_without_effect(settings: Make) -> None:
    """Whoever types the command of a method is not warned of what others wrote into its recipe."""
    small = settings().backbone
    named = {}
    protocols = ("base-to-novel", "few-shot")
    presets = [(method, "ours") for method in METHODS] + [(method, "authors") for method in authors_methods()]
    for dataset, protocol, (method, preset) in product(("stickfigures", "ucf101"), protocols, presets):
        try:
            chosen = configure(dataset=dataset, protocol=protocol, method=method, preset=preset)
        except UserError:  # its authors publish nothing for this protocol
            continue
        small_one = {"backbone": small.model_dump()}
        if chosen.method.coupling != "none":  # the small backbone has no hard prompt of its own
            small_one["method"] = {"coupling": "concat", "hard_prompts": "a phrase"}
        chosen = chosen.updated(small_one, "test")
        refuse_untrained(chosen)
        named[dataset, protocol, method, preset] = list(idle_settings(make_model(chosen, BASE)))
    assert len(named) > 40
    assert not any(named.values())
