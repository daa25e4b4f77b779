"""Attention to neighbouring frames against a twin that walks frame by frame, its edges, prompts and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.model.backbone import Backbone
from ga2clip.model.blocks import with_neighbours
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings

NAMES = ["riding a horse", "juggling", "playing the violin"]
Make = Callable[..., VideoCLIP]


@pytest.fixture
def make(make_backbone: Callable[[], Backbone]) -> Make:
    def build(frame_attention: str = "neighbours", **changes: Any) -> VideoCLIP:
        method = {"text_length": 0, "vision_length": 0, "frame_attention": frame_attention}
        tree = {"method": method | changes.pop("method", {}), **changes}
        torch.manual_seed(3)
        return build_model(make_backbone(), Settings().updated(tree, "test"), NAMES).eval()

    return build


def video(frames: int, clips: int = 1) -> Tensor:
    return torch.randn(clips, frames, 3, 16, 16, generator=torch.Generator().manual_seed(frames))


def test_neighbours_are_zeros_at_the_edges_and_prompts_are_not_shown() -> None:
    own = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])[
        :, None, :, None
    ]  # 2 clips of 2 frames
    seen = with_neighbours(own, 2, tokens=1)[:, 0, :, 0]
    assert seen.tolist() == [[2, 0, 1, 10], [0, 1, 2, 20], [4, 0, 3, 30], [0, 3, 4, 40]]
    both = with_neighbours(own, 4, tokens=2)[:, 0, :, 0]
    assert both[1].tolist() == [3, 30, 1, 10, 2, 20]


def layer_norm(x: np.ndarray, norm: Any) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    return x * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def linear(x: np.ndarray, layer: Any) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def twin(visual: Any, clip: np.ndarray, prompts: list[np.ndarray]) -> np.ndarray:
    """The features (T, D) of a clip (T, 3, H, W): every frame by itself, its keys and values as one list of rows.

    Of the frame after it, of the one before it (zeros where there is none), then its own, prompts last.
    """
    kernel = visual.conv1.weight.detach().numpy()
    side, width = kernel.shape[-1], kernel.shape[0]
    grid = clip.shape[-1] // side
    frames = []
    for pixels in clip:
        cut = pixels.reshape(3, grid, side, grid, side).transpose(1, 3, 0, 2, 4).reshape(grid * grid, -1)
        rows = np.concatenate(
            [visual.class_embedding.detach().numpy()[None], cut @ kernel.reshape(width, -1).T]
        )
        frames.append(layer_norm(rows + visual.positional_embedding.detach().numpy(), visual.ln_pre))
    tokens = len(frames[0])
    for number, block in enumerate(visual.transformer.resblocks):
        if number < len(prompts):
            entered = prompts[number] if number else layer_norm(prompts[number], visual.ln_pre)
            frames = [np.concatenate([x[:tokens], entered]) for x in frames]
        weight, bias = (p.detach().numpy() for p in (block.attn.in_proj_weight, block.attn.in_proj_bias))
        q, k, v = zip(
            *(np.split(layer_norm(x, block.ln_1) @ weight.T + bias, 3, axis=1) for x in frames), strict=True
        )
        nothing, after = np.zeros((tokens, width)), []
        for t, x in enumerate(frames):
            near = (t + 1, t - 1)
            there = [0 <= n < len(frames) for n in near]
            keys, values = (
                np.concatenate(
                    [*(y[n][:tokens] if ok else nothing for n, ok in zip(near, there, strict=True)), y[t]]
                )
                for y in (k, v)
            )
            heads = np.split(np.arange(width), block.attn.num_heads)
            mixed = np.empty_like(x)
            for h in heads:
                scores = np.exp(q[t][:, h] @ keys[:, h].T / np.sqrt(len(h)))
                mixed[:, h] = scores / scores.sum(1, keepdims=True) @ values[:, h]
            x = x + linear(mixed, block.attn.out_proj)
            hidden = linear(layer_norm(x, block.ln_2), block.mlp.c_fc)
            after.append(x + linear(hidden / (1 + np.exp(-1.702 * hidden)), block.mlp.c_proj))
        frames = after
    read = np.stack([x[0] for x in frames])
    return layer_norm(read, visual.ln_post) @ visual.proj.detach().numpy()


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("depth", [0, 1, 3])
@torch.no_grad()
def test_it_computes_what_the_authors_do_and_shows_prompts_once(make: Make, frames: int, depth: int) -> None:
    """Without prompts (depth 0) this is Open-VCLIP. Prompts of the first block only become tokens of every frame."""
    prompted = {"vision_length": 2, "vision_depth": depth} if depth else {}
    model = make(method=prompted).double()
    given = video(frames, clips=2).double()
    prompts = [p.numpy() for p in model.prompts().vision if p is not None]
    assert len(prompts) == depth
    ours = model.encode_frames(given)
    for clip, found in zip(given.numpy(), ours.numpy(), strict=True):
        np.testing.assert_allclose(
            found, twin(model.backbone.vision.visual, clip, prompts), rtol=1e-6, atol=1e-8
        )
    plain = make("own", method=prompted).double().encode_frames(given)
    assert (ours - plain).norm() > 1e-2 * plain.norm()  # of one frame too: the zeros beside it take attention


@torch.no_grad()
def test_the_default_sees_no_neighbours(make: Make) -> None:
    model = make("own")
    clip = video(3)
    alone = torch.cat([model.encode_frames(clip[:, t : t + 1]) for t in range(3)], dim=1)
    torch.testing.assert_close(model.encode_frames(clip), alone)
    assert model.independent_frames
    assert not make().independent_frames


@torch.no_grad()
def test_a_clip_depends_on_its_own_frames_alone_and_a_frame_on_frames_as_far_as_there_are_blocks(
    make: Make,
) -> None:
    model, clip = make(), video(6)
    together = model.encode_frames(torch.cat([clip, 2 * clip]))
    torch.testing.assert_close(together[:1], model.encode_frames(clip))
    other = clip.clone()
    other[:, 0] += 1
    moved = (model.encode_frames(other) - model.encode_frames(clip)).abs().amax(dim=(0, 2))
    assert (moved > 1e-4).tolist() == [True] * 4 + [False] * 2  # three blocks
    assert not moved[4:].any()


@torch.no_grad()
def test_order_is_seen_but_not_the_direction(make: Make) -> None:
    """The frame before and the frame after are seen alike, so a reversed clip has the same features, reversed.

    Only a pooling can tell it from the clip; other orders differ in the mean already.
    """
    model, clip = make(), video(4)
    frames = model.encode_frames(clip)
    torch.testing.assert_close(model.encode_frames(clip.flip(1)), frames.flip(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        model.encode_video(clip.flip(1)), model.encode_video(clip), rtol=1e-4, atol=1e-5
    )
    shuffled = clip[:, [0, 2, 1, 3]]
    assert (model.encode_video(shuffled) - model.encode_video(clip)).abs().max() > 1e-3
    plain = make("own")
    torch.testing.assert_close(plain.encode_video(shuffled), plain.encode_video(clip), rtol=1e-4, atol=1e-5)


def test_of_two_frames_no_pooling_finds_the_order(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    model = make(method={"pooling": "attention"}, data={"frames": 2})
    assert "two frames that attend to each other see the same" in caplog.text
    with torch.no_grad():
        two, three = (model.encode_frames(video(count))[0] for count in (2, 3))
    assert (two[0] - two[1]).abs().max() < 1e-5 * two.abs().max()
    assert (three[0] - three[2]).abs().max() > 1e-2 * three.abs().max()
    caplog.clear()
    make(method={"pooling": "attention"}, data={"frames": 3})
    make("own", method={"pooling": "attention"}, data={"frames": 2})
    assert not caplog.text


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_differences(make: Make, recompute: bool) -> None:
    model = make(method={"vision_length": 2, "vision_depth": 2}).double()
    model.backbone.vision.recompute = recompute
    clip = video(3).double().requires_grad_()
    prompts = list(model.parts.vision_prompt.parameters())

    def encoded(*_: Tensor) -> Tensor:
        return model.encode_frames(clip)

    assert torch.autograd.gradcheck(encoded, [clip, *prompts], fast_mode=True)
    model.encode_video(clip).square().sum().backward()
    assert all(prompt.grad is not None and prompt.grad.any() for prompt in prompts)


@torch.no_grad()
def test_the_frozen_model_sees_no_neighbours(make: Make) -> None:
    model, plain = (
        make(kind, method={"vision_length": 2}, loss={"image_consistency": 1.0})
        for kind in ("neighbours", "own")
    )
    clips, labels = video(3, clips=2), torch.tensor([0, 1])
    assert torch.equal(model.encode_frozen_video(clips, labels), plain.encode_frozen_video(clips, labels))


def test_two_models_of_the_same_weights_have_their_own_fingerprints(make: Make) -> None:
    """What is stored of one (`embed`) must not be taken for the other's."""
    ours, plain = (TorchModel(make(kind), "test", device="cpu") for kind in ("neighbours", "own"))
    assert ours.fingerprint != plain.fingerprint
    assert (ours.independent_frames, plain.independent_frames) == (False, True)
