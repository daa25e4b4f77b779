"""Converts Hugging Face transformers' `CLIPModel` to open_clip's format: config, image processor and tensor names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.tokenizer import CONTEXT, VOCABULARY

# Defaults of saved configs: CLIPTextConfig, CLIPVisionConfig, CLIPImageProcessor (transformers' documentation).
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": CONTEXT,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": VOCABULARY - 1,
}
_VISION: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_QUICK_GELU = {"quick_gelu": True, "gelu": False}
# The feature is read at the end of the text, which is also the largest id; 2 is how older files say so.
_END_OF_TEXT = (2, VOCABULARY - 1)
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def from_transformers(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A `CLIPModel`'s config as open_clip's model config.

    Raises:
        UserError: another model type, or a feature that open_clip's plain ViT CLIP does not have.
    """
    if config.get("model_type", "clip") != "clip":
        raise UserError(
            f"{source} describes a '{config['model_type']}', not a CLIP of transformers",
            "prompts are defined for plain ViT CLIPs",
        )
    # Older versions also wrote each tower's config in a second place, and read that one.
    text, vision = (
        defaults | dict(config.get(f"{tower}_config") or {}) | dict(config.get(f"{tower}_config_dict") or {})
        for tower, defaults in (("text", _TEXT), ("vision", _VISION))
    )
    fixed = {"layer_norm_eps": (1e-5,), "num_channels": (3,), "eos_token_id": _END_OF_TEXT}
    for tower in (text, vision):
        for key, allowed in fixed.items():
            if key in tower and tower[key] not in allowed:
                raise UserError(f"{source}: {key} {tower[key]!r} is not that of a plain CLIP")
    activations = {str(text["hidden_act"]), str(vision["hidden_act"])}
    if len(activations) > 1 or not activations <= _QUICK_GELU.keys():
        raise UserError(f"{source}: activation {' and '.join(sorted(activations))}; known: quick_gelu, gelu")
    try:
        return {
            "embed_dim": config.get("projection_dim", 512),
            "quick_gelu": _QUICK_GELU[activations.pop()],
            "vision_cfg": {
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "width": vision["hidden_size"],
                "layers": vision["num_hidden_layers"],
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                "mlp_ratio": mlp_ratio(vision["intermediate_size"], vision["hidden_size"]),
            },
            "text_cfg": {
                "context_length": text["max_position_embeddings"],
                "vocab_size": text["vocab_size"],
                "width": text["hidden_size"],
                "heads": text["num_attention_heads"],
                "layers": text["num_hidden_layers"],
                "mlp_ratio": mlp_ratio(text["intermediate_size"], text["hidden_size"]),
            },
        }
    except (TypeError, ZeroDivisionError):
        raise UserError(f"{source}: a size is not a whole number above 0") from None


def mlp_ratio(hidden: int, width: int) -> float:
    """The ratio for which open_clip's int(width * ratio) equals `hidden`."""
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width


def processor_pixels(processor: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A `CLIPImageProcessor`'s config (`preprocessor_config.json`) as open_clip's `preprocess_cfg`.

    Raises:
        UserError: a step is switched off, or its crop is not the size that it resizes to.
    """
    for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if not processor.get(step, True):
            raise UserError(f"{source}: {step} is false; a CLIP's frames are resized, cropped and normalised")
    if abs(processor.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise UserError(f"{source}: rescale_factor is not 1/255")
    size, crop = _side(processor.get("size", 224)), _side(processor.get("crop_size", 224))
    resize = "shortest" if "shortest_edge" in _as_mapping(processor.get("size", 224)) else "squash"
    if size != crop:
        raise UserError(f"{source} resizes to {size} and crops to {crop}; here both must be the image size")
    resample = processor.get("resample", 3)
    stated = {"mean": processor.get("image_mean"), "std": processor.get("image_std")}
    return {
        "size": size,
        "resize_mode": resize,
        "interpolation": _RESAMPLE.get(resample, resample),
        **{key: value for key, value in stated.items() if value is not None},
    }


def _as_mapping(size: Any) -> Mapping[str, Any]:
    """A size as a mapping; a number, in older files, is the short side."""
    return size if isinstance(size, Mapping) else {"shortest_edge": size}


def _side(size: Any) -> Any:
    sides = set(map(str, _as_mapping(size).values()))
    return next(iter(_as_mapping(size).values())) if len(sides) == 1 else size


_DROPPED = {"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}
_WHOLE = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # spelled so in transformers
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_IN_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_PREFIX = {"text": "transformer", "vision": "visual.transformer"}
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def is_transformers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of transformers' `CLIPModel`."""
    return any(name.startswith(("text_model.", "vision_model.")) for name in tensors)


def rename(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """A `CLIPModel`'s state dict in OpenAI's naming: queries, keys and values packed, projections transposed.

    Raises:
        UserError: a name that `CLIPModel` doesn't have, or a block without its queries, keys or values.
    """
    renamed: dict[str, Tensor] = {}
    packed: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, value in tensors.items():
        block = _BLOCK.fullmatch(name)
        if name in _DROPPED:
            continue
        if name in _WHOLE:
            renamed[_WHOLE[name]] = value
        elif name in _TRANSPOSED and value.ndim == 2:
            renamed[_TRANSPOSED[name]] = value.T
        elif block and block[3] in _IN_BLOCK:
            renamed[f"{_PREFIX[block[1]]}.resblocks.{block[2]}.{_IN_BLOCK[block[3]]}.{block[4]}"] = value
        elif block and block[3] in _QKV:
            target = f"{_PREFIX[block[1]]}.resblocks.{block[2]}.attn.in_proj_{block[4]}"
            packed.setdefault(target, {})[block[3]] = value
        else:
            unknown.append(name)
    if unknown:
        raise UserError(f"{source} holds tensors that no CLIPModel has: {', '.join(unknown[:6])}")
    for target, parts in packed.items():
        if len(parts) < 3 or len({part.shape for part in parts.values()}) > 1:
            raise UserError(f"{source}: queries, keys and values of {target} are not three alike")
        renamed[target] = torch.cat([parts[name] for name in _QKV])
    return renamed
