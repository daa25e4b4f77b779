"""The towers that we walk ourselves against open_clip's own forward pass, and the sharing of prefixes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from ga2clip.model.backbone import Backbone
from ga2clip.model.blocks import attend
from ga2clip.model.video_clip import build_model
from ga2clip.settings import Settings

NAMES = ["riding a horse", "juggling", "playing the violin in an orchestra"]


@pytest.fixture
def backbone(make_backbone: Callable[[], Backbone]) -> Backbone:
    return make_backbone()


@pytest.fixture
def reference(clip_weights: dict[str, Any]) -> open_clip.CLIP:
    clip = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 64, "layers": 3},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
        quick_gelu=True,
    )
    clip.load_state_dict(clip_weights)
    return clip.eval()


def test_vision_without_prompts_is_open_clips(backbone: Backbone, reference: open_clip.CLIP) -> None:
    pixels = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(backbone.vision(pixels), reference.encode_image(pixels), atol=1e-5, rtol=1e-5)


def test_short_text_is_open_clips_with_77_tokens(backbone: Backbone, reference: open_clip.CLIP) -> None:
    ours = backbone.text(torch.from_numpy(backbone.tokenizer.tokens(NAMES)[:, 1:]))
    theirs = reference.encode_text(open_clip.tokenize(NAMES))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def close_gradients(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> None:
    """Relative error of a whole gradient: single elements are sums that may cancel."""
    assert ours is not None
    assert theirs is not None
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def plain_text(clip: open_clip.CLIP, ids: torch.Tensor, prompts: list[torch.Tensor]) -> torch.Tensor:
    """The plain reading: 77 tokens of every class, prompts overwrite positions 1…n before each block."""
    n = len(prompts[0])
    x = clip.token_embedding(ids)
    x = (
        torch.cat([x[:, :1], prompts[0].expand(len(x), -1, -1), x[:, 1 + n :]], dim=1)
        + clip.positional_embedding
    )
    for index, block in enumerate(clip.transformer.resblocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, :1], prompts[index].expand(len(x), -1, -1), x[:, 1 + n :]], dim=1)
        x = block(x, attn_mask=clip.attn_mask)
    pooled = clip.ln_final(x)[torch.arange(len(x)), ids.argmax(dim=-1)]
    return pooled @ clip.text_projection


def test_shared_prefix_is_exact_with_gradients(backbone: Backbone, reference: open_clip.CLIP) -> None:
    settings = Settings().updated({"method": {"text_length": 4, "text_depth": 2, "vision_length": 0}}, "test")
    model = build_model(backbone, settings, NAMES)
    prompts = [p.detach().clone().requires_grad_() for p in model.prompts().text]
    ids = torch.from_numpy(backbone.tokenizer.tokens([f"X X X X {n}." for n in NAMES], length=77))
    ours, theirs = model.encode_classes(NAMES), plain_text(reference, ids, prompts)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(ours)
    (ours * direction).sum().backward()
    (theirs * direction).sum().backward()
    for parameter, prompt in zip(model.parts.text_prompt.layers, prompts, strict=True):
        close_gradients(parameter.grad, prompt.grad)


def plain_vision(clip: open_clip.CLIP, pixels: torch.Tensor, prompts: list[torch.Tensor]) -> torch.Tensor:
    """The plain reading: prompts behind the patch tokens, in every picture, replaced before each prompted block."""
    visual = clip.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts[0].expand(len(x), -1, -1)], dim=1))
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, : -len(prompts[0])], prompts[index].expand(len(x), -1, -1)], dim=1)
        x = block(x)
    return visual.ln_post(x[:, 0]) @ visual.proj


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_shared_vision_prompts_are_exact_with_gradients(
    backbone: Backbone, reference: open_clip.CLIP, depth: int
) -> None:
    prompts = [torch.randn(4, 64, requires_grad=True) for _ in range(depth)]
    copies = [prompt.detach().clone().requires_grad_() for prompt in prompts]
    pixels = torch.randn(5, 3, 16, 16)
    ours, theirs = backbone.vision(pixels, prompts), plain_vision(reference, pixels, copies)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(ours)
    (ours * direction).sum().backward()
    (theirs * direction).sum().backward()
    for prompt, copy in zip(prompts, copies, strict=True):
        close_gradients(prompt.grad, copy.grad)


def test_recomputing_blocks_changes_nothing(backbone: Backbone) -> None:
    settings = Settings().updated({"method": {"text_length": 4, "vision_length": 4}}, "test")
    model = build_model(backbone, settings, NAMES)
    video, labels = torch.randn(2, 2, 3, 16, 16), torch.tensor([0, 2])

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model.losses(video, labels).total.backward()
        return {n: p.grad.clone() for n, p in model.trainable_parameters().items()}

    kept = gradients()
    backbone.vision.recompute = backbone.text.recompute = True
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, kept[name])


def test_video_feature_is_the_mean_of_unnormalised_frames(backbone: Backbone) -> None:
    model = build_model(backbone, Settings().updated({"method": {"vision_length": 2}}, "test"), NAMES)
    video = torch.randn(2, 3, 3, 16, 16)
    frames = torch.cat([model.encode_frames(clip[None]) for clip in video])
    torch.testing.assert_close(model.encode_video(video), frames.mean(dim=1))


def test_logits_keep_float32_under_autocast(backbone: Backbone) -> None:
    model = build_model(backbone, Settings(), NAMES)
    a, b = torch.randn(2, 32), torch.randn(3, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.logits(a, b)
    expected = model.scale * F.cosine_similarity(a[:, None], b[None], dim=-1)
    torch.testing.assert_close(logits, expected)


def test_prompts_started_from_a_phrase_leave_the_model_as_it_reads_that_phrase(backbone: Backbone) -> None:
    phrase = "a video of a person doing"
    tree = {"text_length": 6, "text_init": phrase, "vision_length": 0}
    model = build_model(backbone, Settings().updated({"method": tree}, "test"), NAMES)
    assert len(model.prompts().text) == 3
    plain = backbone.tokenizer.tokens([f"{phrase} {name}." for name in NAMES])
    expected = backbone.text(torch.from_numpy(plain[:, 1:]))
    torch.testing.assert_close(model.encode_classes(NAMES), expected, atol=1e-5, rtol=1e-5)


def attended_in_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    scores[..., ~mask] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True) @ v


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_that_trains_is_attention(dtype: torch.dtype, causal: bool) -> None:
    """In bf16 it is written out, with keys that are centred: keys far from zero, as trained ones are, cost nothing."""
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(2, 3, length, 8, generator=generator) for length in (4, 6, 6)]
    inputs[1] += 20 * torch.randn(1, 3, 1, 8, generator=generator)
    leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    mask = torch.ones(4, 6, dtype=torch.bool).tril(2) if causal else None
    out = attend(*leaves, mask)
    shown = torch.ones(4, 6, dtype=torch.bool) if mask is None else mask
    wanted = attended_in_numpy(*(leaf.detach().double().numpy() for leaf in leaves), shown.numpy())
    bound = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.03}
    torch.testing.assert_close(out.detach().double(), torch.from_numpy(wanted), **bound)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    direction = torch.randn(2, 3, 4, 8, generator=generator)
    got = torch.autograd.grad(out, leaves, direction.to(dtype))
    right = torch.autograd.grad(
        F.scaled_dot_product_attention(*exact, attn_mask=mask), exact, direction.double()
    )
    for ours, theirs in zip(got, right, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() <= (1e-5 if dtype == torch.float32 else 0.03) * theirs.norm()
