"""A small member of every backbone family: open_clip's real classes with few channels and blocks, and random weights.

timm's models take their sizes from their name, so the entry points of some names are replaced by narrower ones.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import torch
from safetensors.torch import save_file
from timm.models import _registry
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn

SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
ENTRY_POINTS: dict[str, dict[str, Any]] = {
    "vit_base_patch16_siglip_224": SMALL_VIT,
    "eva02_base_patch16_clip_224": {**SMALL_VIT, "ref_feat_shape": (4, 4)},
    "eva02_enormous_patch14_clip_224": SMALL_VIT,
    "eva02_tiny_patch14_224": {**SMALL_VIT, "ref_feat_shape": (4, 4)},
    "vit_pe_core_tiny_patch16_384": {**SMALL_VIT, "ref_feat_shape": (2, 2), "attn_pool_num_heads": 2},
    "vit_base_mci_224": {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32},
    "fastvit_mci0": {"layers": (1, 1, 1, 1), "embed_dims": (8, 16, 32, 64)},
    "convnext_base": {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)},
}
CLIP_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
INCEPTION = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
RAW = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
CLIP = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
PLAIN_VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2}


def _timm(
    name: str, pool: str, text: dict[str, Any] | None = None, proj: str | None = None, **rest: Any
) -> Any:
    vision = {
        "timm_model_name": name,
        "timm_pool": pool,
        "timm_proj": proj,
        "image_size": rest.pop("size", 32),
    }
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": {**CLIP_TEXT, **(text or {})}, **rest}


NO_MASK = {"no_causal_mask": True}
SIGLIP_TEXT = {
    "context_length": 32,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
MEMBERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip": ({"embed_dim": 24, "vision_cfg": PLAIN_VISION, "text_cfg": CLIP_TEXT, "quick_gelu": True}, CLIP),
    "clipa": (
        {
            "embed_dim": 24,
            "vision_cfg": {
                **PLAIN_VISION,
                "no_ln_pre": True,
                "pool_type": "avg",
                "final_ln_after_pool": True,
            },
            "text_cfg": {**CLIP_TEXT, "context_length": 32, "pool_type": "last", "no_causal_mask": True},
        },
        {**CLIP, "interpolation": "bilinear", "resize_mode": "squash"},
    ),
    "worldwide": (
        {
            "embed_dim": 24,
            "vision_cfg": PLAIN_VISION,
            "text_cfg": {**CLIP_TEXT, "pool_type": "eos", "eos_id": 49407},
        },
        CLIP,
    ),
    "siglip": (
        _timm(
            "vit_base_patch16_siglip_224",
            "map",
            {**SIGLIP_TEXT, "width": 32},
            "none",
            embed_dim=32,
            init_logit_bias=-10,
            custom_text=True,
        ),
        INCEPTION,
    ),
    "eva02": (_timm("eva02_base_patch16_clip_224", "token", custom_text=True), CLIP),
    "pe-core": (
        _timm("vit_pe_core_tiny_patch16_384", "map", {"context_length": 32}, custom_text=True),
        INCEPTION,
    ),
    "mobileclip-b": (_timm("vit_base_mci_224", "token", custom_text=True), RAW),
    "mobileclip-s": (_timm("fastvit_mci0", "avg", NO_MASK, custom_text=True, size=64), RAW),
    "resnet": (
        {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
            "text_cfg": CLIP_TEXT,
            "quick_gelu": True,
        },
        CLIP,
    ),
    "convnext": (_timm("convnext_base", "", proj="linear", size=64), CLIP),
}
TRANSFORMERS = ("clip", "clipa", "worldwide", "siglip", "eva02", "pe-core", "mobileclip-b")
CONVOLUTIONAL = ("mobileclip-s", "resnet", "convnext")


@contextmanager
def small_timm() -> Iterator[None]:
    """While it lasts, the names of `ENTRY_POINTS` build small models."""

    def smaller(name: str) -> Any:
        real = _registry._model_entrypoints[name]

        def build(pretrained: bool = False, **given: Any) -> nn.Module:
            return real(pretrained, **{**given, **ENTRY_POINTS[name]})

        return build

    def stem(channels: object, **rest: Any) -> nn.Module:
        return ConvStem(channels=(8, 8, 32), **rest)

    with (
        patch.dict(_registry._model_entrypoints, {name: smaller(name) for name in ENTRY_POINTS}),
        patch("timm.models.vision_transformer_hybrid.ConvStem", stem),
    ):
        yield


def make_model(member: str) -> Any:
    """A random model whose parameters all matter: none is zero or one, as layer scales and biases are at first."""
    config = copy.deepcopy(MEMBERS[member][0])
    torch.manual_seed(1)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    model = kind(**config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim:
            parameter.add_(0.1 * torch.randn_like(parameter))
    if model.logit_bias is not None:
        model.logit_bias.fill_(-2.0)  # probabilities that are not all near 0
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return model


def write_member(member: str, folder: Path) -> Any:
    """Write a member as its hub folder has it: weights and `open_clip_config.json`. Returns the model."""
    config, pixels = MEMBERS[member]
    model = make_model(member)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: v.contiguous() for n, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    content = {"model_cfg": config, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return model
