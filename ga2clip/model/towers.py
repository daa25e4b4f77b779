"""The two towers of a plain ViT CLIP, which take prompts and other weights per layer.

The towers walk open_clip's blocks with its weights, because prompts enter between blocks, and because
`nn.MultiheadAttention` as open_clip calls it is many times slower than the same weights applied as
linear → attention → linear (bf16 on CPUs). No prompt parameters live here.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LayerPrompts = Sequence[Tensor | None]
"""One entry per block: the prompt (n, W) that is inserted before it, or None for no change."""


class BlockWeights(NamedTuple):
    """Weights (out, in) of a block's linear layers; None: the block's own.

    in_proj: (3W, W), queries, keys and values one below the other. c_fc, c_proj: into and out of the hidden layer.
    """

    in_proj: Tensor | None = None
    out_proj: Tensor | None = None
    c_fc: Tensor | None = None
    c_proj: Tensor | None = None


LayerWeights = Sequence[BlockWeights | None]
"""One entry per block, or none at all."""
_OWN = BlockWeights()


class _Tower(nn.Module):
    """The common base of both towers."""

    blocks: Sequence[ResidualAttentionBlock]
    recompute = False
    """Recompute a block's activations in the backward pass instead of keeping them."""

    @property
    def width(self) -> int:
        """Channels of a token (W)."""
        return self.blocks[0].attn.embed_dim

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of a block's MLP."""
        return self.blocks[0].mlp.c_fc.out_features

    def changed(self, changes: LayerWeights, weights: LayerWeights = ()) -> list[BlockWeights | None]:
        """`weights`, where there are none the blocks' own, with `changes` added."""
        layers = zip(
            self.blocks, _per_layer(changes, self.depth), _per_layer(weights, self.depth), strict=True
        )
        return [
            before if change is None else _added(_own(block), before or _OWN, change)
            for block, change, before in layers
        ]

    def _run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


class VisionTower(_Tower):
    """Encodes frames: normalised pixels (N, 3, H, W) → features (N, D), not normalised.

    Prompts (m, W) of the input layer are appended after the patch tokens, before `ln_pre`; deeper ones replace the last
    m tokens before their block (VPT-Deep, ECCV 2022, sec. 3.2, with the prompts last). A block's output at prompts that
    the next block replaces is never used. Such prompts are therefore only used as keys and values, common to all
    frames; this is exact and saves N · m tokens.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual

    @property
    def blocks(self) -> Sequence[ResidualAttentionBlock]:  # type: ignore[override]
        """The transformer's blocks."""
        return self.visual.transformer.resblocks

    def forward(self, pixels: Tensor, prompts: LayerPrompts = (), weights: LayerWeights = ()) -> Tensor:
        """Encode pictures; `prompts[i]` enters before block i, which works with `weights[i]`."""
        prompts, weights = _per_layer(prompts, self.depth), _per_layer(weights, self.depth)
        x = self._tokens(pixels)
        tokens = x.shape[1]
        for index, block in enumerate(self.blocks):
            context = self._context(prompts[index], index, x)
            last = index == self.depth - 1
            if context is not None:
                x = x[:, :tokens]
                if not last and prompts[index + 1] is None:
                    x, context = torch.cat([x, context.expand(x.shape[0], -1, -1)], dim=1), None
            own = weights[index] or _OWN
            x = self._run(_pooled_block if last else _block, block, own, x, context)
        return self.visual.ln_post(x[:, 0]) @ self.visual.proj

    def _tokens(self, pixels: Tensor) -> Tensor:
        patches = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        class_token = self.visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        x = torch.cat([class_token, patches], dim=1) + self.visual.positional_embedding.to(patches.dtype)
        return self.visual.ln_pre(x)

    def _context(self, prompt: Tensor | None, index: int, x: Tensor) -> Tensor | None:
        """A layer's prompt as tokens (1, m, W)."""
        if prompt is None:
            return None
        tokens = prompt.to(x.dtype)[None]
        return tokens if index else self.visual.ln_pre(tokens)


class TextTower(_Tower):
    """Encodes texts: token ids int64 (C, S) → features (C, D), not normalised.

    A text is [SOT, n prompt positions, words…, EOT, padding]. The ids are those after the prompt: words, EOT (the
    largest id, at whose position the feature is read), zeros. Because the mask is causal, the states of SOT and the
    prompt are equal for all texts: they are computed once and shared, which is exact, also for gradients. Deeper
    prompts replace the prompt positions before their block.
    """

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        self.token_embedding: nn.Embedding = clip.token_embedding
        self.positional_embedding: nn.Parameter = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final: nn.LayerNorm = clip.ln_final
        self.text_projection: nn.Parameter = clip.text_projection
        self.start_id: int = clip.vocab_size - 2  # CLIP's vocabulary ends in SOT, EOT

    @property
    def blocks(self) -> Sequence[ResidualAttentionBlock]:  # type: ignore[override]
        """The transformer's blocks."""
        return self.transformer.resblocks

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (…) int64 → token embeddings (…, W) without positions."""
        return self.token_embedding(ids)

    def prefix_states(self, prompt: Tensor) -> list[Tensor]:
        """The hidden states (n, W) of a prompt (n, W) after SOT before each block; the first is the input itself.

        Deep prompts with these values don't change the model with the input prompt alone.
        """
        x = self.embed(torch.full((1, 1), self.start_id, device=prompt.device))
        x = torch.cat([x, prompt[None]], dim=1) + self.positional_embedding[: 1 + len(prompt)]
        states = [prompt]
        for block in self.blocks[:-1]:
            q, k, v = _project(block, _OWN, x)
            x = _finish(block, _OWN, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
            states.append(x[0, 1:])
        return states

    def forward(self, ids: Tensor, prompts: LayerPrompts = (), weights: LayerWeights = ()) -> Tensor:
        """Encode texts; `prompts[i]` (n, W) enters before block i, which works with `weights[i]`."""
        prompts, weights = _per_layer(prompts, self.depth), _per_layer(weights, self.depth)
        prefix = self.embed(ids.new_full((1, 1), self.start_id))
        if prompts[0] is not None:
            prefix = torch.cat([prefix, prompts[0].to(prefix.dtype)[None]], dim=1)
        split = prefix.shape[1]
        positions = self.positional_embedding.to(prefix.dtype)
        prefix = prefix + positions[:split]
        suffix = self.embed(ids) + positions[split : split + ids.shape[1]]
        mask = _suffix_mask(split, ids.shape[1], ids.device)
        for index, block in enumerate(self.blocks):
            if index:
                prefix = _replace_last(prefix, prompts[index])
            own = weights[index] or _OWN
            prefix, suffix = self._run(_prefixed_block, block, own, prefix, suffix, mask)
        pooled = suffix[torch.arange(ids.shape[0], device=ids.device), ids.argmax(dim=-1)]
        return self.ln_final(pooled) @ self.text_projection


_T = TypeVar("_T", bound=_Tower)
_Entry = TypeVar("_Entry")


@torch.no_grad()
def with_weights(tower: _T, weights: LayerWeights) -> _T:
    """A tower whose own weights are `weights`, for inference: the tower itself where there are none."""
    if not any(weights):
        return tower
    tower = copy.deepcopy(tower)
    for block, changed in zip(tower.blocks, weights, strict=True):
        for parameter, value in zip(_own(block), changed or _OWN, strict=True):
            if value is not None:
                parameter.copy_(value)
    return tower


def run_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """A block of open_clip with its own weights over tokens (N, L, W)."""
    return _block(block, _OWN, x)


def _own(block: ResidualAttentionBlock) -> Iterator[nn.Parameter]:
    """A block's weights in the order of `BlockWeights`."""
    yield block.attn.in_proj_weight
    yield from (layer.weight for layer in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj))


def _added(own: Iterator[nn.Parameter], before: BlockWeights, change: BlockWeights) -> BlockWeights:
    weights = zip(own, before, change, strict=True)
    return BlockWeights(*(b if c is None else (w if b is None else b) + c for w, b, c in weights))


def _per_layer(entries: Sequence[_Entry | None], depth: int) -> list[_Entry | None]:
    return [*entries[:depth], *[None] * (depth - len(entries))]


def _replace_last(x: Tensor, prompt: Tensor | None) -> Tensor:
    if prompt is None:
        return x
    kept = x[:, : x.shape[1] - len(prompt)]
    return torch.cat([kept, prompt.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)


def _suffix_mask(split: int, length: int, device: torch.device) -> Tensor:
    """The attention mask (S, split + S) bool of suffix tokens: True for the prefix and the suffix up to itself."""
    row = torch.arange(length, device=device)[:, None]
    column = torch.arange(split + length, device=device)[None, :]
    return column <= row + split


def _block(
    block: ResidualAttentionBlock, own: BlockWeights, x: Tensor, context: Tensor | None = None
) -> Tensor:
    """A block over tokens (N, L, W) that also look at context tokens (1, m, W), which are the same for all."""
    q, k, v = _project_with(block, own, x, context)
    return _finish(block, own, x, F.scaled_dot_product_attention(q, k, v))


def _pooled_block(
    block: ResidualAttentionBlock, own: BlockWeights, x: Tensor, context: Tensor | None = None
) -> Tensor:
    """The last block for the class token alone, since nothing else of it is read: (N, L, W) → (N, 1, W)."""
    q, k, v = _project_with(block, own, x, context)
    return _finish(block, own, x[:, :1], F.scaled_dot_product_attention(q[:, :, :1], k, v))


def _project_with(
    block: ResidualAttentionBlock, own: BlockWeights, x: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of x; keys and values of x and then the context."""
    q, k, v = _project(block, own, x)
    if context is None:
        return q, k, v
    _, context_k, context_v = _project(block, own, context)
    keys = torch.cat([k, context_k.expand(x.shape[0], -1, -1, -1)], dim=2)
    # Copying the queries frees the packed projection, whose other two thirds are copied above.
    return q.contiguous(), keys, torch.cat([v, context_v.expand(x.shape[0], -1, -1, -1)], dim=2)


def _prefixed_block(
    block: ResidualAttentionBlock, own: BlockWeights, prefix: Tensor, suffix: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    q, k, v = _project(block, own, prefix)
    own_q, own_k, own_v = _project(block, own, suffix)
    keys = torch.cat([k.expand(suffix.shape[0], -1, -1, -1), own_k], dim=2)
    values = torch.cat([v.expand(suffix.shape[0], -1, -1, -1), own_v], dim=2)
    prefix = _finish(block, own, prefix, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    attended = F.scaled_dot_product_attention(own_q, keys, values, attn_mask=mask)
    return prefix, _finish(block, own, suffix, attended)


def _project(block: ResidualAttentionBlock, own: BlockWeights, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (N, heads, L, W / heads) of a block's normalised input."""
    attention = block.attn
    weight = attention.in_proj_weight if own.in_proj is None else own.in_proj
    mixed = F.linear(block.ln_1(x), weight, attention.in_proj_bias)
    q, k, v = mixed.unflatten(-1, (3, attention.num_heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
    return q, k, v


def _finish(block: ResidualAttentionBlock, own: BlockWeights, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.ls_1(_linear(block.attn.out_proj, own.out_proj, attended.transpose(1, 2).flatten(2)))
    hidden = block.mlp.gelu(_linear(block.mlp.c_fc, own.c_fc, block.ln_2(x)))
    return x + block.ls_2(_linear(block.mlp.c_proj, own.c_proj, hidden))


def _linear(layer: nn.Linear, weight: Tensor | None, x: Tensor) -> Tensor:
    return layer(x) if weight is None else F.linear(x, weight, layer.bias)
