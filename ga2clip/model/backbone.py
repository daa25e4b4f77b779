"""A CLIP by name or from a file goes in; two plain towers that accept prompts per layer come out.

This is the one place that knows open_clip. The towers walk open_clip's blocks with its weights, because prompts
enter between blocks, and because `nn.MultiheadAttention` as open_clip calls it is many times slower than the
same weights applied as linear → attention → linear (bf16 on CPUs). No prompt parameters live here.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.weights import read_weights
from ga2clip.settings import BackboneSettings
from ga2clip.tokenizer import ClipTokenizer
from ga2clip.video import Preprocess

_log = logging.getLogger(__name__)

BUILTIN = "tiny"
# OpenAI's preprocessing constants, CLIP repository, `_transform`.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Not weights: the scalars that OpenAI's archives carry beside them.
_OPENAI_EXTRAS = frozenset({"input_resolution", "context_length", "vocab_size"})

LayerPrompts = Sequence[Tensor | None]
"""One entry per block: a prompt (n, W) that enters before it, or None where the tokens go on unchanged."""


class _Tower(nn.Module):
    """What the two towers share: walking a stack of blocks into which prompts enter."""

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

    def _run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


class VisionTower(_Tower):
    """Pixels (N, 3, H, W) normalised → features (N, D), unnormalised.

    Prompts (m, W) of the input layer are appended after the patch tokens, before `ln_pre`; deeper ones replace
    the last m tokens before their block (VPT-Deep, ECCV 2022, sec. 3.2, with the prompts last). What a block makes
    of prompts that are replaced after it is never read: such prompts are only looked at, as keys and values that
    all pictures share, which is exact and spares N · m tokens.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual

    @property
    def blocks(self) -> Sequence[ResidualAttentionBlock]:  # type: ignore[override]
        """The transformer's blocks."""
        return self.visual.transformer.resblocks

    def forward(self, pixels: Tensor, prompts: LayerPrompts = ()) -> Tensor:
        """Encode pictures; `prompts[i]` enters before block i."""
        prompts = _per_layer(prompts, self.depth)
        x = self._tokens(pixels)
        tokens = x.shape[1]
        for index, block in enumerate(self.blocks):
            context = self._context(prompts[index], index, x)
            last = index == self.depth - 1
            if context is not None:
                x = x[:, :tokens]
                if not last and prompts[index + 1] is None:
                    x, context = torch.cat([x, context.expand(x.shape[0], -1, -1)], dim=1), None
            x = self._run(_pooled_block if last else _block, block, x, context)
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
    """Token ids (C, S) int64 → features (C, D), unnormalised.

    A text is [SOT, n prompt positions, words…, EOT, padding]. The ids given hold the part behind the prompt:
    words, EOT (the largest id, at which the feature is read), zeros. The mask is causal, so SOT and the prompt
    look the same to every text: they are computed once and shared, which is exact, gradients included.
    Deeper prompts replace the prompt positions before their block.
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
        """What a prompt (n, W) behind SOT has become before each block, (n, W) each: the input itself first.

        Deep prompts that start from these leave the model as it is with the input prompt alone.
        """
        x = self.embed(torch.full((1, 1), self.start_id, device=prompt.device))
        x = torch.cat([x, prompt[None]], dim=1) + self.positional_embedding[: 1 + len(prompt)]
        states = [prompt]
        for block in self.blocks[:-1]:
            q, k, v = _project(block, x)
            x = _finish(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
            states.append(x[0, 1:])
        return states

    def forward(self, ids: Tensor, prompts: LayerPrompts = ()) -> Tensor:
        """Encode texts; `prompts[i]` (n, W) enters before block i."""
        prompts = _per_layer(prompts, self.depth)
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
            prefix, suffix = self._run(_prefixed_block, block, prefix, suffix, mask)
        pooled = suffix[torch.arange(ids.shape[0], device=ids.device), ids.argmax(dim=-1)]
        return self.ln_final(pooled) @ self.text_projection


def _per_layer(prompts: LayerPrompts, depth: int) -> list[Tensor | None]:
    return [*prompts[:depth], *[None] * (depth - len(prompts))]


def _replace_last(x: Tensor, prompt: Tensor | None) -> Tensor:
    if prompt is None:
        return x
    kept = x[:, : x.shape[1] - len(prompt)]
    return torch.cat([kept, prompt.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)


def _suffix_mask(split: int, length: int, device: torch.device) -> Tensor:
    """(S, split + S) bool, True where a suffix token may look: the whole prefix, and the suffix up to itself."""
    row = torch.arange(length, device=device)[:, None]
    column = torch.arange(split + length, device=device)[None, :]
    return column <= row + split


def _block(block: ResidualAttentionBlock, x: Tensor, context: Tensor | None = None) -> Tensor:
    """A block over tokens (N, L, W) that also look at context tokens (1, m, W), which are the same for all."""
    q, k, v = _project_with(block, x, context)
    return _finish(block, x, F.scaled_dot_product_attention(q, k, v))


def _pooled_block(block: ResidualAttentionBlock, x: Tensor, context: Tensor | None = None) -> Tensor:
    """The last block for the class token alone, since nothing else of it is read: (N, L, W) → (N, 1, W)."""
    q, k, v = _project_with(block, x, context)
    return _finish(block, x[:, :1], F.scaled_dot_product_attention(q[:, :, :1], k, v))


def _project_with(
    block: ResidualAttentionBlock, x: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of x; keys and values of x and then the context."""
    q, k, v = _project(block, x)
    if context is None:
        return q, k, v
    _, context_k, context_v = _project(block, context)
    keys = torch.cat([k, context_k.expand(x.shape[0], -1, -1, -1)], dim=2)
    # A copy of the queries lets go of the packed projection, whose other two thirds are copied above.
    return q.contiguous(), keys, torch.cat([v, context_v.expand(x.shape[0], -1, -1, -1)], dim=2)


def _prefixed_block(
    block: ResidualAttentionBlock, prefix: Tensor, suffix: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    q, k, v = _project(block, prefix)
    own_q, own_k, own_v = _project(block, suffix)
    keys = torch.cat([k.expand(suffix.shape[0], -1, -1, -1), own_k], dim=2)
    values = torch.cat([v.expand(suffix.shape[0], -1, -1, -1), own_v], dim=2)
    prefix = _finish(block, prefix, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    return prefix, _finish(block, suffix, F.scaled_dot_product_attention(own_q, keys, values, attn_mask=mask))


def _project(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (N, heads, L, W / heads) of a block's normalised input."""
    attention = block.attn
    mixed = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = mixed.unflatten(-1, (3, attention.num_heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
    return q, k, v


def _finish(block: ResidualAttentionBlock, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


class Backbone(nn.Module):
    """A frozen CLIP as two towers, its temperature, and what else belongs to it.

    vision, text: the towers. logit_scale: () float, its exponent multiplies cosines. preprocess: the pixel recipe.
    """

    def __init__(self, clip: open_clip.CLIP, *, name: str, licence: str, preprocess: Preprocess) -> None:
        super().__init__()
        _refuse_other_architectures(clip, name)
        self.vision = VisionTower(clip.visual)
        self.text = TextTower(clip)
        self.logit_scale: nn.Parameter = clip.logit_scale
        self.name, self.licence, self.preprocess = name, licence, preprocess
        self.context_length: int = clip.context_length
        self.embed_dim: int = clip.text_projection.shape[1]
        self.tokenizer = ClipTokenizer.from_open_clip()
        self.requires_grad_(False).eval()


def load_backbone(settings: BackboneSettings) -> Backbone:
    """The CLIP that the settings name, in float32 on the CPU.

    Errors: UserError for an unknown name or tag, a download that fails, a missing file, and weights that do
    not fill the architecture exactly.
    """
    if settings.pretrained == "builtin":
        return _load_builtin(settings.name)
    if _looks_like_file(settings.pretrained):
        weights = read_weights(settings.pretrained)
        return backbone_from_weights(weights, source=settings.pretrained, quick_gelu=settings.quick_gelu)
    return _load_open_clip(settings.name, settings.pretrained)


def backbone_from_weights(
    weights: Mapping[str, Tensor],
    *,
    source: str,
    quick_gelu: bool = True,
    name: str = "",
    licence: str = "as its source says",
) -> Backbone:
    """A CLIP whose sizes are read off a state dict in OpenAI's naming (also open_clip's for plain CLIPs).

    weights: tensors of any float dtype. source: named in errors. Heads are 64 wide, as in OpenAI's CLIPs.
    Errors: UserError that lists missing and unexpected tensors.
    """
    tensors = {key: value for key, value in weights.items() if key not in _OPENAI_EXTRAS}
    config = _config_from_shapes(tensors, source)
    clip = open_clip.CLIP(**config, quick_gelu=quick_gelu)
    load_exactly(clip, tensors, source)
    preprocess = Preprocess(size=config["vision_cfg"]["image_size"], mean=CLIP_MEAN, std=CLIP_STD)
    return Backbone(clip, name=name or _describe(config), licence=licence, preprocess=preprocess)


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a module. Errors: UserError listing every missing, unexpected or misshapen tensor."""
    own = module.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    problems = [f"missing: {_some(missing)}"] if missing else []
    problems += [f"unexpected: {_some(unexpected)}"] if unexpected else []
    problems += [f"wrong shape: {_some(shapes)}"] if shapes else []
    if problems:
        raise UserError(f"{source} does not fit the model: {'; '.join(problems)}")
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _looks_like_file(pretrained: str) -> bool:
    return Path(pretrained).suffix in {".pt", ".pth", ".bin", ".safetensors"} or "/" in pretrained


def _load_builtin(name: str) -> Backbone:
    if name != BUILTIN:
        hint = f"--pretrained openai downloads {name}; --pretrained FILE reads its weights; '{BUILTIN}' is built in"
        raise UserError(f"no built-in weights for backbone '{name}'", hint)
    folder = resources.files("ga2clip.assets") / BUILTIN
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    preprocess = Preprocess(**config.pop("preprocess"))
    clip = open_clip.CLIP(**config)
    with resources.as_file(folder / "weights.safetensors") as path:
        tensors = _with_whole_embedding(read_weights(path), clip.vocab_size)
    load_exactly(clip, tensors, f"the built-in backbone '{BUILTIN}'")
    return Backbone(clip, name=BUILTIN, licence="MIT", preprocess=preprocess)


def _with_whole_embedding(tensors: dict[str, Tensor], vocabulary: int) -> dict[str, Tensor]:
    """The stored rows of the token embedding in their places; words that pre-training never saw are zeros."""
    ids, rows = tensors.pop("token_embedding.ids"), tensors.pop("token_embedding.rows")
    whole = torch.zeros(vocabulary, rows.shape[1])
    whole[ids.long()] = rows.float()
    return {**tensors, "token_embedding.weight": whole}


def _load_open_clip(name: str, tag: str) -> Backbone:
    if name not in open_clip.list_models():
        raise unknown_name("backbone", name, [BUILTIN, *open_clip.list_models()])
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        raise unknown_name(f"pretrained tag for {name}", tag, open_clip.list_pretrained_tags_by_model(name))
    try:
        clip = open_clip.create_model(name, pretrained=tag, force_quick_gelu=bool(config.get("quick_gelu")))
    except (OSError, RuntimeError) as error:
        hint = "is there a network? with the weights on disk: --pretrained FILE"
        raise UserError(f"could not get the weights '{tag}' of {name}: {_first_line(error)}", hint) from None
    pixels = open_clip.get_model_preprocess_cfg(clip)
    preprocess = Preprocess(
        size=clip.visual.image_size[0], mean=tuple(pixels["mean"]), std=tuple(pixels["std"])
    )
    licence = "MIT" if tag == "openai" else "as its publisher says"
    return Backbone(clip.float(), name=f"{name}/{tag}", licence=licence, preprocess=preprocess)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _config_from_shapes(tensors: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    needed = (
        "visual.proj",
        "visual.conv1.weight",
        "visual.positional_embedding",
        "text_projection",
        "ln_final.weight",
    )
    absent = [
        key for key in (*needed, "positional_embedding", "token_embedding.weight") if key not in tensors
    ]
    if absent:
        raise UserError(f"{source} is not a ViT CLIP in OpenAI's naming: no {_some(absent)}")
    width, _, patch, _ = tensors["visual.conv1.weight"].shape
    grid = round((len(tensors["visual.positional_embedding"]) - 1) ** 0.5)
    text_width = len(tensors["ln_final.weight"])
    return {
        "embed_dim": tensors["text_projection"].shape[1],
        "vision_cfg": {
            "image_size": patch * grid,
            "patch_size": patch,
            "width": width,
            "layers": _count_blocks(tensors, "visual.transformer.resblocks."),
        },
        "text_cfg": {
            "context_length": len(tensors["positional_embedding"]),
            "vocab_size": len(tensors["token_embedding.weight"]),
            "width": text_width,
            "heads": text_width // 64,
            "layers": _count_blocks(tensors, "transformer.resblocks."),
        },
    }


def _count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)})


def _describe(config: Mapping[str, Any]) -> str:
    vision = config["vision_cfg"]
    sizes = {(768, 12): "ViT-B", (1024, 24): "ViT-L"}
    size = sizes.get((vision["width"], vision["layers"]), f"ViT-{vision['width']}x{vision['layers']}")
    return f"{size}-{vision['patch_size']}"


def _refuse_other_architectures(clip: open_clip.CLIP, name: str) -> None:
    visual = getattr(clip, "visual", None)
    plain_text = hasattr(clip, "transformer") and getattr(clip, "text_pool_type", "") == "argmax"
    plain_vision = (
        isinstance(visual, VisionTransformer) and visual.pool_type == "tok" and visual.attn_pool is None
    )
    if not (
        plain_text and plain_vision and all(type(b) is ResidualAttentionBlock for b in _all_blocks(clip))
    ):
        raise UserError(
            f"backbone '{name}' is not a plain ViT CLIP with a causal text tower",
            "prompts are defined for these; take ViT-B-32, ViT-B-16, ViT-L-14 or another CLIP ViT",
        )


def _all_blocks(clip: open_clip.CLIP) -> list[nn.Module]:
    return [*clip.visual.transformer.resblocks, *clip.transformer.resblocks]
