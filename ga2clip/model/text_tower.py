"""The text tower of open_clip's models: causal or not, read at one token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from ga2clip.model.blocks import OPEN_CLIP, OWN, BlockWeights, attend
from ga2clip.model.towers import LayerPrompts, LayerWeights, Tower, per_layer
from ga2clip.tokenizer import VOCABULARY

CLIP_START = VOCABULARY - 2
"""The id of CLIP's start token; its vocabulary ends in SOT, EOT."""
POOLS = ("argmax", "eos", "last", "first")
"""The token at which a feature is read: the largest id, the end token, the context's last or first place."""


class TextTower(Tower):
    """Encodes texts: token ids int64 (C, S) → features (C, D), not normalised.

    A text is [SOT, n prompt positions, words…, EOT, padding]; SOT only where the tokenizer has one. The ids are those
    after the prompt: words, EOT, padding. Deeper prompts replace the prompt positions before their block.

    In a causal tower the states of SOT and the prompt are equal for all texts: they are computed once and shared, which
    is exact, also for gradients; padding behind the token that is read has no effect, so S is as long as needed.
    In a tower without mask every token sees all others, padding included: each text is filled up to the context with
    `pad_id` here, and the last block computes only the token that is read.

    Args:
        text: open_clip's `CLIP` (whose text tower is no module of its own) or its `TextTransformer`.
        start_id: id of SOT, or None for a tokenizer without one.
        pad_id: id that fills texts up.
    """

    def __init__(self, text: Any, start_id: int | None = CLIP_START, pad_id: int = 0) -> None:
        super().__init__()
        self.token_embedding: nn.Embedding = text.token_embedding
        self.positional_embedding: nn.Parameter = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final: nn.LayerNorm = text.ln_final
        self.text_projection: nn.Parameter | nn.Linear | None = text.text_projection
        self.start_id, self.pad_id = start_id, pad_id
        self.pool, self.eos_id = _pooling(text)
        self.causal = text.attn_mask is not None

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks."""
        return self.transformer.resblocks

    @property
    def context_length(self) -> int:
        """Most tokens of a text."""
        return len(self.positional_embedding)

    @property
    def embed_dim(self) -> int:
        """Width of a feature (D)."""
        if self.text_projection is None:
            return self.width
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection.out_features
        return self.text_projection.shape[1]

    @property
    def start_tokens(self) -> int:
        """Tokens before the prompt: 1, or 0 without SOT."""
        return 0 if self.start_id is None else 1

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (…) int64 → token embeddings (…, W) without positions."""
        return self.token_embedding(ids)

    def prefix_states(self, prompt: Tensor, empty: Tensor) -> list[Tensor]:
        """The hidden states (n, W) of a prompt (n, W) before each block; the first is the input itself.

        empty: ids (1, S) of a text without words. In a causal tower the states are those of every text, so deep prompts
        with these values don't change the model with the input prompt alone. In one without mask they are those before
        an empty text, and so a start near to it.
        """
        x = self._start(prompt, prompt.device)
        split = x.shape[1]
        if not self.causal:
            x = torch.cat([x, self.embed(self._filled(empty, split))], dim=1)
        x = x + self.positional_embedding[: x.shape[1]]
        states = [prompt]
        for block in self.blocks[:-1]:
            q, k, v = self.kind.project(block, OWN, x)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            x = self.kind.finish(block, OWN, x, attended)
            states.append(x[0, self.start_tokens : split])
        return states

    def forward(self, ids: Tensor, prompts: LayerPrompts = (), weights: LayerWeights = ()) -> Tensor:
        """Encode texts; `prompts[i]` (n, W) enters before block i, which works with `weights[i]`."""
        prompts, weights = per_layer(prompts, self.depth), per_layer(weights, self.depth)
        prefix = self._start(prompts[0], ids.device)
        if not self.causal or self.pool == "last":
            ids = self._filled(ids, prefix.shape[1])
        pooled = (self._shared if self.causal else self._whole)(ids, prefix, prompts, weights)
        return self._project_out(self.ln_final(pooled))

    def _shared(self, ids: Tensor, prefix: Tensor, prompts: LayerPrompts, weights: LayerWeights) -> Tensor:
        """The state (C, W) that is read, in a causal tower: SOT and prompt are computed once."""
        split = prefix.shape[1]
        positions = self.positional_embedding.to(prefix.dtype)
        prefix = prefix + positions[:split]
        suffix = self.embed(ids) + positions[split : split + ids.shape[1]]
        mask = _suffix_mask(split, ids.shape[1], ids.device)
        for index, block in enumerate(self.blocks):
            if index:
                prefix = _replace_last(prefix, prompts[index])
            own = weights[index] or OWN
            prefix, suffix = self.run(_prefixed_block, block, own, prefix, suffix, mask)
        return suffix[torch.arange(ids.shape[0], device=ids.device), self._place(ids)]

    def _whole(self, ids: Tensor, prefix: Tensor, prompts: LayerPrompts, weights: LayerWeights) -> Tensor:
        """The state (C, W) that is read, in a tower without mask: whole contexts."""
        count, split, start = ids.shape[0], prefix.shape[1], self.start_tokens
        x = torch.cat([prefix.expand(count, -1, -1), self.embed(ids)], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        place = torch.zeros_like(ids[:, 0]) if self.pool == "first" else split + self._place(ids)
        for index, block in enumerate(self.blocks):
            prompt = prompts[index] if index else None
            if prompt is not None:
                replaced = prompt.to(x.dtype).expand(count, -1, -1)
                x = torch.cat([x[:, :start], replaced, x[:, split:]], dim=1)
            last = index == self.depth - 1
            x = self.run(_open_block, block, weights[index] or OWN, x, place if last else None)
        return x[:, 0]

    def _start(self, prompt: Tensor | None, device: torch.device) -> Tensor:
        """SOT and the prompt of the input layer as tokens (1, start + n, W), without positions."""
        shape = (1, self.start_tokens)
        start = self.embed(torch.full(shape, self.start_id or 0, dtype=torch.int64, device=device))
        return start if prompt is None else torch.cat([start, prompt.to(start.dtype)[None]], dim=1)

    def _filled(self, ids: Tensor, taken: int) -> Tensor:
        """Ids (C, S) filled up to the context, of which `taken` places are before them."""
        length = self.context_length - taken
        return torch.cat([ids, ids.new_full((ids.shape[0], length), self.pad_id)], dim=1)[:, :length]

    def _place(self, ids: Tensor) -> Tensor:
        """The column (C,) of the ids at which the feature is read."""
        if self.pool == "eos":
            return (ids == self.eos_id).int().argmax(dim=-1)
        if self.pool == "last":
            return torch.full_like(ids[:, 0], ids.shape[1] - 1)
        return ids.argmax(dim=-1)

    def _project_out(self, x: Tensor) -> Tensor:
        if self.text_projection is None:
            return x
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(x)
        return x @ self.text_projection


def text_of(model: nn.Module) -> Any:
    """What `TextTower` takes of an open_clip model: its module `text`, or the model itself."""
    return getattr(model, "text", model)


def text_refusal(model: nn.Module) -> str:
    """Why an open_clip model's text tower takes no prompts; empty if it does."""
    text = text_of(model)
    if not hasattr(text, "attn_mask") or not hasattr(text, "token_embedding"):
        return f"its text tower is a {type(text).__name__}, not open_clip's own"
    if getattr(text, "cls_emb", None) is not None or getattr(text, "use_pad_mask", False):
        return "its text tower reads an appended class token behind a padding mask (CoCa)"
    if not all(type(block) is ResidualAttentionBlock for block in text.transformer.resblocks):
        return "its text tower has attention blocks of another kind than CLIP's"
    pool = _pooling(text)[0]
    if pool not in POOLS or (pool == "first" and text.attn_mask is not None):
        return f"its text tower is pooled by '{pool}'"
    return ""


def text_config_refusal(config: Mapping[str, Any]) -> str:
    """As `text_refusal`, from open_clip's model config, without building the model."""
    text = config["text_cfg"]
    if text.get("hf_model_name"):
        return f"its text tower is {text['hf_model_name']} of transformers, not open_clip's own"
    if "multimodal_cfg" in config or text.get("embed_cls"):
        return "its text tower reads an appended class token behind a padding mask (CoCa)"
    if any(text.get(key) for key in CUSTOM_BLOCKS):
        return "its text tower has attention blocks of another kind than CLIP's"
    pool = text.get("pool_type", "argmax")
    if pool not in POOLS or (pool == "first" and not text.get("no_causal_mask")):
        return f"its text tower is pooled by '{pool}'"
    return ""


CUSTOM_BLOCKS = (
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)
"""The keys of open_clip's tower configs that change what a block computes."""


def _pooling(text: Any) -> tuple[str, int]:
    """The pooling and the end token's id, which a `CLIP` has under names of its own."""
    if hasattr(text, "text_pool_type"):
        return text.text_pool_type, text.text_eos_id
    return text.pool_type, text.eos_id


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


def _prefixed_block(
    block: ResidualAttentionBlock, own: BlockWeights, prefix: Tensor, suffix: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    own_q, own_k, own_v = OPEN_CLIP.project(block, own, suffix)
    if not prefix.shape[1]:  # neither SOT nor prompt
        attended = attend(own_q, own_k, own_v, mask)
        return prefix, OPEN_CLIP.finish(block, own, suffix, attended)
    q, k, v = OPEN_CLIP.project(block, own, prefix)
    keys = torch.cat([k.expand(suffix.shape[0], -1, -1, -1), own_k], dim=2)
    values = torch.cat([v.expand(suffix.shape[0], -1, -1, -1), own_v], dim=2)
    prefix = OPEN_CLIP.finish(block, own, prefix, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    attended = attend(own_q, keys, values, mask)
    return prefix, OPEN_CLIP.finish(block, own, suffix, attended)


def _open_block(block: ResidualAttentionBlock, own: BlockWeights, x: Tensor, place: Tensor | None) -> Tensor:
    """A block in which every token sees all: (C, L, W) → the same, or (C, 1, W) of the token at `place` (C,)."""
    q, k, v = OPEN_CLIP.project(block, own, x)
    if place is not None:
        row = torch.arange(x.shape[0], device=x.device)
        q, x = q[row, :, place][:, :, None], x[row, place][:, None]
    return OPEN_CLIP.finish(block, own, x, attend(q, k, v))
