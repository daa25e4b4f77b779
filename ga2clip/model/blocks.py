"""Transformer blocks as queries, keys and values, then the rest: of open_clip and of timm.

The towers walk a model's own blocks with its weights, because prompts enter between blocks. A `BlockKind` knows how
one class of blocks computes; attention itself, which is the same for all, is called by the towers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionRope, GluMlp, Mlp, SwiGLU
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class BlockWeights(NamedTuple):
    """Weights (out, in) of a block's linear layers; None: the block's own.

    in_proj: (3W, W), queries, keys and values one below the other. c_fc, c_proj: into and out of the hidden layer; of a
    gated MLP c_fc is the gate's weight with the other one below it.
    """

    in_proj: Tensor | None = None
    out_proj: Tensor | None = None
    c_fc: Tensor | None = None
    c_proj: Tensor | None = None


OWN = BlockWeights()
"""A block's own weights."""

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, each (N, heads, L, W / heads)."""


class BlockKind(Protocol):
    """How one class of pre-norm blocks computes. Stateless."""

    def width(self, block: Any) -> int:
        """Channels of a token (W)."""

    def hidden(self, block: Any) -> int:
        """Width of the hidden layer of the MLP."""

    def gates(self, block: Any) -> int:
        """Weights into the hidden layer: 2 in a gated MLP, else 1."""

    def weights(self, block: Any) -> BlockWeights:
        """All weights that parts can change."""

    def store(self, block: Any, weights: BlockWeights) -> None:
        """Overwrite the block's weights by those that are not None."""

    def project(self, block: Any, own: BlockWeights, x: Tensor) -> Heads:
        """Queries, keys and values of the block's input (N, L, W), normalised first; not rotated."""

    def finish(self, block: Any, own: BlockWeights, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output (N, L, W) for its input and the attended values (N, heads, L, W / heads)."""


class OpenClipBlock:
    """open_clip's `ResidualAttentionBlock`.

    `nn.MultiheadAttention` as open_clip calls it is many times slower than the same weights applied as linear →
    attention → linear (bf16 on CPUs).
    """

    def width(self, block: Any) -> int:
        """As `BlockKind`."""
        return int(block.attn.embed_dim)

    def hidden(self, block: Any) -> int:
        """As `BlockKind`."""
        return int(block.mlp.c_fc.out_features)

    def gates(self, _: Any) -> int:
        """As `BlockKind`."""
        return 1

    def weights(self, block: Any) -> BlockWeights:
        """As `BlockKind`."""
        layers = (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj)
        return BlockWeights(block.attn.in_proj_weight, *(layer.weight for layer in layers))

    def store(self, block: Any, weights: BlockWeights) -> None:
        """As `BlockKind`."""
        for parameter, value in zip(self.weights(block), weights, strict=True):
            if value is not None and parameter is not None:
                parameter.copy_(value)

    def project(self, block: Any, own: BlockWeights, x: Tensor) -> Heads:
        """As `BlockKind`."""
        attention = block.attn
        weight = attention.in_proj_weight if own.in_proj is None else own.in_proj
        mixed = F.linear(block.ln_1(x), weight, attention.in_proj_bias)
        q, k, v = mixed.unflatten(-1, (3, attention.num_heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def finish(self, block: Any, own: BlockWeights, x: Tensor, attended: Tensor) -> Tensor:
        """As `BlockKind`."""
        x = x + block.ls_1(_linear(block.attn.out_proj, own.out_proj, attended.transpose(1, 2).flatten(2)))
        hidden = block.mlp.gelu(_linear(block.mlp.c_fc, own.c_fc, block.ln_2(x)))
        return x + block.ls_2(_linear(block.mlp.c_proj, own.c_proj, hidden))


class TimmBlock:
    """timm's `Block` (its ViT) and `EvaBlock` (EVA-02, Perception Encoder), with an `Mlp`, a `SwiGLU` or a `GluMlp`.

    `EvaBlockPostNorm` (EVA-02-E) has its norms at the end of its branches.
    """

    def width(self, block: Any) -> int:
        """As `BlockKind`."""
        return int(block.norm1.weight.shape[0])

    def hidden(self, block: Any) -> int:
        """As `BlockKind`."""
        return int(block.mlp.fc2.in_features)

    def gates(self, block: Any) -> int:
        """As `BlockKind`."""
        return 2 if isinstance(block.mlp, SwiGLU | GluMlp) else 1

    def weights(self, block: Any) -> BlockWeights:
        """As `BlockKind`."""
        return BlockWeights(
            _packed([layer.weight for layer in _inputs(block.attn)]),
            block.attn.proj.weight,
            _packed([layer.weight for layer in _expansions(block.mlp)]),
            block.mlp.fc2.weight,
        )

    def store(self, block: Any, weights: BlockWeights) -> None:
        """As `BlockKind`."""
        layers = (_inputs(block.attn), [block.attn.proj], _expansions(block.mlp), [block.mlp.fc2])
        for parts, value in zip(layers, weights, strict=True):
            if value is not None:
                for layer, rows in zip(parts, value.chunk(len(parts)), strict=True):
                    layer.weight.copy_(rows)

    def project(self, block: Any, own: BlockWeights, x: Tensor) -> Heads:
        """As `BlockKind`."""
        attention = block.attn
        x, bias = _entry(block, block.norm1)(x), _input_bias(attention)
        layers = _inputs(attention)
        if own.in_proj is not None or len(layers) == 1:
            weight = layers[0].weight if own.in_proj is None else own.in_proj
            mixed = F.linear(x, weight, bias)
        else:
            mixed = torch.cat([layer(x) for layer in layers], dim=-1)
        q, k, v = mixed.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return attention.q_norm(q), attention.k_norm(k), v

    def finish(self, block: Any, own: BlockWeights, x: Tensor, attended: Tensor) -> Tensor:
        """As `BlockKind`."""
        attended = block.attn.norm(attended.transpose(1, 2).flatten(2))
        first, second = _exits(block)
        x = x + first(_linear(block.attn.proj, own.out_proj, attended))
        mlp, y = block.mlp, _entry(block, block.norm2)(x)
        layers = _expansions(mlp)
        parts = [None] * len(layers) if own.c_fc is None else own.c_fc.chunk(len(layers))
        inner = [_linear(layer, weight, y) for layer, weight in zip(layers, parts, strict=True)]
        if isinstance(mlp, GluMlp):  # both in one layer
            inner = list(inner[0].chunk(2, dim=-1))
        hidden = mlp.act(inner[0]) * inner[1] if len(inner) == 2 else mlp.act(inner[0])
        return x + second(_linear(mlp.fc2, own.c_proj, mlp.norm(hidden)))


OPEN_CLIP, TIMM = OpenClipBlock(), TimmBlock()


def activation_name(module: nn.Module) -> str:
    """The class of an activation, and whether a GELU is the approximate one."""
    approximate = getattr(module, "approximate", "none")
    return type(module).__name__ + ("" if approximate == "none" else f" ({approximate})")


def is_timm_block(block: nn.Module) -> bool:
    """Whether `TimmBlock` computes what the block does."""
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    known = (type(block) is Block and type(attention) is Attention) or (
        type(block) in (EvaBlock, EvaBlockPostNorm) and type(attention) in (EvaAttention, AttentionRope)
    )
    gate_first = type(mlp) is GluMlp and not mlp.gate_last
    if not known or not (gate_first or type(mlp) in (Mlp, SwiGLU)):
        return False
    width = attention.num_heads * attention.head_dim  # type: ignore[union-attr]
    plain = attention.gate is None and getattr(attention, "num_kv_groups", 1) == 1  # type: ignore[union-attr]
    return bool(plain and width == TIMM.width(block) and isinstance(attention.proj, nn.Linear))  # type: ignore[union-attr]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention: softmax(q · kᵀ / √d) · v.

    Where a CPU trains in bf16 it is two products: the backward pass of torch's fused kernel takes 3 times as long
    there for the frames of ViT-B/16 and 19 times as long for its class texts (torch 2.14, docs/benchmarks.md). Scores
    are then rounded to bf16, so the keys are centred first. That moves all scores of a query by the same number, which
    a softmax ignores, and leaves smaller ones to round (SageAttention, ICLR 2025, sec. 4.2, for 8-bit scores).

    Args:
        q: queries (N, heads, L, d).
        k: keys (N, heads, S, d).
        v: values (N, heads, S, d).
        mask: (L, S) bool, the keys that a query looks at; None: all.

    Returns:
        The attended values (N, heads, L, d).
    """
    trains = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not trains or v.dtype != torch.bfloat16 or v.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        q, k = q.to(v.dtype) * q.shape[-1] ** -0.5, k.to(v.dtype)
        scores = q @ (k - k.mean(dim=-2, keepdim=True).detach()).transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1) @ v


def with_neighbours(own: Tensor, frames: int, tokens: int) -> Tensor:
    """Keys or values of frames that also see the frame after and the frame before them.

    The queries of a frame then attend to both neighbours and to the frame itself, in every block, without any new
    parameter. The first frame of a clip has none before it and the last none after it: there the keys and values are
    zeros, which take part in the softmax with a score of 0, as in the authors' code; they are not masked. So a clip of
    one frame does not give what that frame gives by itself.

    Args:
        own: keys or values (B · T, heads, S, d), clip after clip.
        frames: T.
        tokens: of a frame, its first `tokens` are seen by its neighbours, not the prompts behind them.

    Returns:
        (B · T, heads, 2 · tokens + S, d).

    Source: Open-VCLIP (ICML 2023, arXiv 2302.00624), `expand_temporal_view` in its code, which has no prompts.
    """
    shown = own[:, :, :tokens].unflatten(0, (-1, frames))
    nothing = torch.zeros_like(shown[:, :1])
    padded = torch.cat([nothing, shown, nothing], dim=1)
    return torch.cat([padded[:, 2:].flatten(0, 1), padded[:, :-2].flatten(0, 1), own], dim=2)


def rotated(q: Tensor, table: Tensor | None, *, start: int, half: bool) -> Tensor:
    """Queries or keys (N, heads, L, W / heads) with rotary positions at the tokens that `table` has rows for.

    table: (P, 2 · W / heads) sines and cosines of P patches, or None for a tower without rotary positions. start: the
    first patch's place in the sequence. The tokens before (class token) and behind (prompts) are not rotated.
    """
    if table is None:
        return q
    patches = q[:, :, start : start + table.shape[0]]
    behind = q[:, :, start + table.shape[0] :]
    turned = apply_rot_embed_cat(patches, table, half=half).to(q.dtype)
    return torch.cat([q[:, :, :start], turned, behind], dim=2)


def _linear(layer: nn.Linear, weight: Tensor | None, x: Tensor) -> Tensor:
    return layer(x) if weight is None else F.linear(x, weight, layer.bias)


def _packed(weights: Sequence[Tensor]) -> Tensor:
    return weights[0] if len(weights) == 1 else torch.cat(tuple(weights))


def _inputs(attention: Any) -> list[nn.Linear]:
    """The layers of queries, keys and values: one that is packed, or three."""
    if attention.qkv is not None:
        return [attention.qkv]
    return [attention.q_proj, attention.k_proj, attention.v_proj]


def _input_bias(attention: Any) -> Tensor | None:
    """The bias of queries, keys and values (3W,). EVA's keys have none."""
    if attention.qkv is not None and getattr(attention, "q_bias", None) is not None:
        return torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    layers = _inputs(attention)
    if all(layer.bias is None for layer in layers):
        return None
    biases = [torch.zeros_like(layer.weight[:, 0]) if layer.bias is None else layer.bias for layer in layers]
    return _packed(biases)


def _expansions(mlp: Any) -> list[nn.Linear]:
    """The layers into the hidden layer: one (which may hold both of a gated MLP), or the gate and the gated one."""
    return [mlp.fc1_g, mlp.fc1_x] if isinstance(mlp, SwiGLU) else [mlp.fc1]


def _entry(block: Any, norm: nn.Module) -> Any:
    """What a branch does to its input."""
    return (lambda x: x) if isinstance(block, EvaBlockPostNorm) else norm


def _exits(block: Any) -> tuple[Any, Any]:
    """What the two branches do to their output: layer scales of a ViT, factors or norms of EVA."""
    if isinstance(block, Block):
        return block.ls1, block.ls2
    if isinstance(block, EvaBlockPostNorm):
        return block.norm1, block.norm2
    return _times(block.gamma_1), _times(block.gamma_2)


def _times(factor: Tensor | None) -> Any:
    return (lambda x: x) if factor is None else (lambda x: factor * x)
