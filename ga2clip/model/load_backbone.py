"""A CLIP by name or from a file, as a `Backbone`: built in, from open_clip, or from a file of weights."""

import json
import logging
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.backbone import Backbone, load_exactly, some
from ga2clip.model.weights import read_weights
from ga2clip.settings import BackboneSettings
from ga2clip.video import Preprocess

_log = logging.getLogger(__name__)

BUILTIN = "tiny"
# OpenAI's preprocessing constants, CLIP repository, `_transform`.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Not weights: the scalars that OpenAI's archives carry beside them.
_OPENAI_EXTRAS = frozenset({"input_resolution", "context_length", "vocab_size"})


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
        raise UserError(f"{source} is not a ViT CLIP in OpenAI's naming: no {some(absent)}")
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
