"""Class features from sentences: normalised, averaged, normalised; a single text is today's result to the bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.labels import fill
from ga2clip.model.backbone import Backbone
from ga2clip.model.methods import METHODS, method_settings
from ga2clip.model.scoring import mean_directions
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings
from ga2clip.settings_reading import merge

NAMES = ["kicking a ball", "riding a bike", "rowing a boat"]
SENTENCES = {
    "Kicking a ball": ["a foot meets a ball.", "somebody in the grass, and a ball that flies away."],
    "riding_a_bike": ["two wheels turn"],
}


@pytest.fixture
def make(make_backbone: Callable[[], Backbone]) -> Callable[..., VideoCLIP]:
    def build(method: str = "ivlp", descriptions: Any = SENTENCES, **changes: Any) -> VideoCLIP:
        sizes = {"text_length": 3, "vision_length": 3, "text_depth": 2, "vision_depth": 2}
        tree = merge({"method": sizes}, method_settings(method))
        settings = Settings().updated(merge(tree, {"method": changes, "descriptions": descriptions}), "test")
        torch.manual_seed(0)
        hard = torch.randn(3, 64) if settings.method.coupling != "none" else None
        return build_model(make_backbone(), settings, NAMES, hard).eval()

    return build


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@torch.no_grad()
def test_sentences_are_averaged_as_directions(make: Callable[..., VideoCLIP]) -> None:
    """Against NumPy, on what the text tower gives for each sentence behind the prompt, alone."""
    model = make()
    prompts = model.prompts()

    def alone(text: str) -> np.ndarray:
        return model.encode_tokens(model.token_ids([text]), prompts)[0].numpy().astype(np.float64)

    found = model.encode_classes(NAMES).numpy()
    kicked = unit(np.stack([alone(text) for text in SENTENCES["Kicking a ball"]]))
    np.testing.assert_allclose(found[0], unit(kicked.mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(found[1], alone("two wheels turn"), atol=1e-5)
    np.testing.assert_allclose(found[2], alone("rowing a boat."), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_one_sentence_like_the_class_text_changes_no_bit(make: Callable[..., VideoCLIP], method: str) -> None:
    plain = make(method, {})
    same = {name: [fill(plain.class_template, name)] for name in NAMES}
    for descriptions in (same, {name: [] for name in NAMES}, {NAMES[0]: same[NAMES[0]]}):
        assert torch.equal(make(method, descriptions).encode_classes(NAMES), plain.encode_classes(NAMES))


def test_means_keep_single_rows_and_weigh_every_sentence_alike() -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 0.5], [5.0, 5.0], [0.0, -2.0]])
    found = mean_directions(features, [2, 1, 1])
    half = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[half, half], [5.0, 5.0], [0.0, -2.0]]))
    assert mean_directions(features, [1, 1, 1, 1]) is features
    assert mean_directions(features.bfloat16(), [2, 2]).dtype == torch.float32


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_go_by_texts_and_change_no_gradient(make: Callable[..., VideoCLIP], chunk: int) -> None:
    model, seen = make(), []
    encode = model.encode_tokens

    def counted(ids: torch.Tensor, prompts: Any) -> torch.Tensor:
        seen.append(len(ids))
        return encode(ids, prompts)

    def gradients(chunk: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        features = model.encode_classes(NAMES, chunk=chunk)
        (features * weights).sum().backward()
        return features.detach(), [p.grad.clone() for p in model.parts["text_prompt"].parameters()]

    weights = torch.randn(3, 32)
    whole, wanted = gradients(0)
    model.encode_tokens = counted  # type: ignore[method-assign]
    cut, got = gradients(chunk)
    assert max(seen) == chunk
    torch.testing.assert_close(cut, whole)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_without_gradients_many_texts_are_encoded_in_parts(
    make: Callable[..., VideoCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    with torch.no_grad():
        whole = model.encode_classes(NAMES)
        monkeypatch.setattr("ga2clip.model.video_clip._TEXTS_AT_ONCE", 3)
        torch.testing.assert_close(model.encode_classes(NAMES), whole, rtol=1e-5, atol=1e-6)


def test_constants_of_the_text_side_stay_those_of_the_names(make: Callable[..., VideoCLIP]) -> None:
    for method in ("kgcoop", "vilt", "linear-probe"):
        plain, described = make(method, {}), make(method)
        for name in ("teacher", "scenario", "negatives"):
            mine, other = getattr(described, name), getattr(plain, name)
            assert (mine is None and other is None) or torch.equal(mine, other)
        if method == "linear-probe":
            assert torch.equal(described.encode_classes(NAMES), plain.encode_classes(NAMES))


def test_a_sentence_that_is_too_long_is_named_with_its_class(make: Callable[..., VideoCLIP]) -> None:
    model = make(descriptions={"riding a bike": ["two wheels", "wheels " * 80]})
    with pytest.raises(UserError, match=r"class 'riding a bike', text 2 of 2: .*wheels wheels.* 74 fit"):
        model.encode_classes(NAMES)
