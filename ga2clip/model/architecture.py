"""The architecture of a plain ViT CLIP, from a model config, a name of open_clip, or OpenAI's own layout.

The shapes of the weights determine most sizes, but not the number of heads, the activation and the normalisation of
pixels, and wrong values of these load without an error. So they must be stated by one of these sources; they are never
guessed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.transformers_layout import from_transformers, mlp_ratio, processor_pixels
from ga2clip.tokenizer import CONTEXT, VOCABULARY
from ga2clip.video import Preprocess

OPENAI = "openai"
"""The name of OpenAI's architecture of any size: QuickGELU, head width 64, CLIP's own normalisation of pixels."""
OPENAI_HEAD_WIDTH = (
    64  # github.com/openai/CLIP, clip/model.py, `build_model`: width // 64 heads in both towers
)
_LARGEST_JSON = 1 << 20  # bytes; model configs have under two thousand

_Size = Annotated[int, Field(ge=1, le=1 << 20)]
_Share = Annotated[float, Field(gt=0, le=64)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VisionConfig(_Config):
    """open_clip's `vision_cfg` of a plain ViT, with its defaults."""

    image_size: _Size = 224
    patch_size: _Size = 16
    width: _Size = 768
    layers: _Size = 12
    head_width: _Size = 64
    mlp_ratio: _Share = 4.0
    ls_init_value: float | None = None


class TextConfig(_Config):
    """open_clip's `text_cfg` of a causal text tower, with its defaults."""

    context_length: _Size = CONTEXT
    vocab_size: _Size = VOCABULARY
    width: _Size = 512
    heads: _Size = 8
    layers: _Size = 12
    mlp_ratio: _Share = 4.0
    ls_init_value: float | None = None


class ModelConfig(_Config):
    """open_clip's model config, restricted to plain ViT CLIPs."""

    embed_dim: _Size
    vision_cfg: VisionConfig
    text_cfg: TextConfig
    quick_gelu: bool | None = None
    """None: not stated."""

    @property
    def heads(self) -> tuple[int, int]:
        """Heads of the vision and the text tower, as open_clip counts them."""
        return self.vision_cfg.width // self.vision_cfg.head_width, self.text_cfg.heads

    @property
    def weights(self) -> int:
        """The number of elements of its large matrices; slightly less than its number of parameters."""
        towers = (self.vision_cfg, self.text_cfg)
        blocks = (t.layers * (4 * t.width**2 + 2 * t.width * int(t.width * t.mlp_ratio)) for t in towers)
        widths = self.vision_cfg.width + self.text_cfg.width
        return sum(blocks) + widths * self.embed_dim + self.text_cfg.vocab_size * self.text_cfg.width

    def sizes(self) -> dict[str, int]:
        """The sizes by readable name, to be compared with `sizes_of`."""
        vision, text = self.vision_cfg, self.text_cfg
        return {
            "vision width": vision.width,
            "vision layers": vision.layers,
            "vision MLP width": int(vision.width * vision.mlp_ratio),
            "patch size": vision.patch_size,
            "patches per side": vision.image_size // vision.patch_size,
            "text width": text.width,
            "text layers": text.layers,
            "text MLP width": int(text.width * text.mlp_ratio),
            "context length": text.context_length,
            "vocabulary": text.vocab_size,
            "embedding width": self.embed_dim,
        }


@dataclass(frozen=True)
class Architecture:
    """The architecture of a CLIP according to one source.

    quick_gelu and preprocess are None if the source doesn't state them. source: its name in messages.
    """

    config: ModelConfig
    quick_gelu: bool | None
    preprocess: Preprocess | None
    source: str

    def build(self) -> open_clip.CLIP:
        """The model with random weights, float32 on the CPU."""
        config = self.config.model_dump(exclude={"quick_gelu"})
        return open_clip.CLIP(**config, quick_gelu=bool(self.quick_gelu))

    @property
    def pixels(self) -> Preprocess:
        """The preprocessing of frames: as stated, else CLIP's own."""
        return self.preprocess or Preprocess(size=self.config.vision_cfg.image_size)


def sizes_of(tensors: Mapping[str, Tensor], source: str) -> dict[str, int]:
    """The sizes, by the names of `ModelConfig.sizes`, of a state dict in OpenAI's naming.

    Raises:
        UserError: names or shapes are not those of a ViT CLIP.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(
                f"{source} is not a ViT CLIP in OpenAI's naming: no {name}",
                "for a model of another kind say which: --backbone NAME (`ga2clip backbones` lists them), or put "
                "its open_clip_config.json beside it",
            )
        if tensors[name].ndim != dimensions or not tensors[name].numel():
            raise UserError(f"{source}: {name} has the shape {tuple(tensors[name].shape)}")
        return tuple(tensors[name].shape)

    width, _, patch, _ = shape("visual.conv1.weight", 4)
    positions = shape("visual.positional_embedding", 2)[0] - 1
    side = round(positions**0.5)
    if side * side != positions:
        raise UserError(f"{source}: {positions} patch positions make no square")
    context, text_width = shape("positional_embedding", 2)
    return {
        "vision width": width,
        "vision layers": _count_blocks(tensors, "visual.transformer.resblocks."),
        "vision MLP width": shape("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "patch size": patch,
        "patches per side": side,
        "text width": text_width,
        "text layers": _count_blocks(tensors, "transformer.resblocks."),
        "text MLP width": shape("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "context length": context,
        "vocabulary": shape("token_embedding.weight", 2)[0],
        "embedding width": shape("text_projection", 2)[1],
    }


def _count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)})


def openai_layout(
    sizes: Mapping[str, int], source: str, *, quick_gelu: bool = True, head_width: int = OPENAI_HEAD_WIDTH
) -> Architecture:
    """OpenAI's architecture with the sizes of a state dict.

    Raises:
        UserError: the width of a tower is not a multiple of the head width.
    """
    for tower in ("vision width", "text width"):
        if sizes[tower] % head_width:
            raise UserError(
                f"{source}: {tower} {sizes[tower]} has no heads of {head_width}, so it is not OpenAI's"
            )
    config = ModelConfig(
        embed_dim=sizes["embedding width"],
        vision_cfg=VisionConfig(
            image_size=sizes["patch size"] * sizes["patches per side"],
            patch_size=sizes["patch size"],
            width=sizes["vision width"],
            layers=sizes["vision layers"],
            head_width=head_width,
            mlp_ratio=mlp_ratio(sizes["vision MLP width"], sizes["vision width"]),
        ),
        text_cfg=TextConfig(
            context_length=sizes["context length"],
            vocab_size=sizes["vocabulary"],
            width=sizes["text width"],
            heads=sizes["text width"] // head_width,
            layers=sizes["text layers"],
            mlp_ratio=mlp_ratio(sizes["text MLP width"], sizes["text width"]),
        ),
    )
    return Architecture(config, quick_gelu, Preprocess(size=config.vision_cfg.image_size), source)


def named(name: str) -> Architecture:
    """The architecture of an open_clip name such as `ViT-B-16`, or of published weights: `ViT-B-16/laion2b_s34b_b88k`.

    A name without a tag doesn't determine activation and pixel normalisation, in which its published weights differ.

    Raises:
        UserError: unknown name or tag, or a model that is not a plain ViT CLIP.
    """
    model, _, tag = name.partition("/")
    if model not in open_clip.list_models():
        raise unknown_name("backbone", model, open_clip.list_models())
    source = f"open_clip's {name}"
    config = _model_config(open_clip.get_model_config(model), source)
    if not tag:
        return Architecture(config, config.quick_gelu, None, source)
    weights = open_clip.get_pretrained_cfg(model, tag)
    if not weights:
        raise unknown_name(f"pretrained tag for {model}", tag, open_clip.list_pretrained_tags_by_model(model))
    quick_gelu = bool(config.quick_gelu or weights.get("quick_gelu"))
    return Architecture(
        config, quick_gelu, open_clip_pixels(weights, config.vision_cfg.image_size, source), source
    )


def fitting_names(sizes: Mapping[str, int]) -> list[str]:
    """The names in open_clip of models with these sizes."""
    names = []
    for name in open_clip.list_models():
        try:
            fits = named(name).config.sizes() == sizes
        except UserError:  # not a plain CLIP
            continue
        if fits:
            names.append(name)
    return names


def variants(name: str, *, activation: bool = True) -> list[str]:
    """Tags of open_clip under `name` with another pixel normalisation (or, with `activation`, another activation)."""
    alone = named(name)
    differing = []
    for tag in open_clip.list_pretrained_tags_by_model(name):
        config = open_clip.get_pretrained_cfg(name, tag)
        same = open_clip_pixels(config, alone.pixels.size, f"{name}/{tag}") == alone.pixels
        if activation:
            same = same and bool(config.get("quick_gelu")) == bool(alone.quick_gelu)
        if not same:
            differing.append(tag)
    return differing


def published_with_other_pixels(known: Architecture) -> list[str]:
    """`NAME/TAG` of open_clip's published weights of an architecture that prepare pixels in another way than CLIP."""
    found = []
    for name in fitting_names(known.config.sizes()):
        alone = named(name)
        if alone.config.heads != known.config.heads:
            continue
        for tag in variants(name, activation=False):
            quick = bool(alone.quick_gelu or open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
            if known.quick_gelu in (None, quick):
                found.append(f"{name}/{tag}")
    return found


def read_config(path: Path) -> Architecture | None:
    """The architecture in a JSON config; None if the file is not a config of a CLIP.

    Supported: open_clip's `open_clip_config.json`, its plain model configs, and transformers' `config.json` of a
    `CLIPModel`, with the image processor's config beside it.

    Raises:
        UserError: not JSON, a model that is not a plain ViT CLIP, or impossible values.
    """
    content = read_json(path)
    source = str(path)
    if "text_config" in content or "vision_config" in content or content.get("model_type") == "clip":
        config = _model_config(from_transformers(content, source), source)
        return Architecture(config, config.quick_gelu, _processor_pixels(path.parent, config), source)
    model = content.get("model_cfg", content)
    if not isinstance(model, Mapping) or not {"vision_cfg", "text_cfg"} <= model.keys():
        return None
    config = _model_config(model, source)
    pixels = open_clip_pixels(content.get("preprocess_cfg", {}), config.vision_cfg.image_size, source)
    # open_clip writes the key only for QuickGELU.
    return Architecture(config, bool(config.quick_gelu), pixels, source)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError, which names the file, for anything else."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise UserError(f"{path} is too large for a model config")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not valid JSON") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


# Keys without an effect here: initialisation and dropout.
_IRRELEVANT = {"init_logit_scale", "patch_dropout"}
_NOT_STATED: dict[str, Any] = {"custom_text": False, "init_logit_bias": None, "nonscalar_logit_scale": False}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether an open_clip model config states nothing that a plain ViT CLIP doesn't have.

    Its values may still be impossible.
    """
    vision = _without_defaults(config["vision_cfg"], _defaults(CLIPVisionCfg))
    text = _without_defaults(config["text_cfg"], _defaults(CLIPTextCfg))
    rest = _without_defaults({**config, "vision_cfg": None, "text_cfg": None}, _NOT_STATED)
    return (
        vision.keys() <= VisionConfig.model_fields.keys()
        and text.keys() <= TextConfig.model_fields.keys()
        and rest.keys() <= ModelConfig.model_fields.keys()
        and not isinstance(vision.get("layers"), list | tuple)
    )


def _model_config(given: Any, source: str) -> ModelConfig:
    """open_clip's model config, validated. Keys that we don't support must have their default values."""
    try:
        towers = {
            "vision_cfg": _without_defaults(given["vision_cfg"], _defaults(CLIPVisionCfg)),
            "text_cfg": _without_defaults(given["text_cfg"], _defaults(CLIPTextCfg)),
        }
        config = ModelConfig.model_validate(_without_defaults({**given, **towers}, _NOT_STATED))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{source} is not a model config of a CLIP") from None
    except ValidationError as error:
        raise _explain(error, source) from None
    widths = (config.vision_cfg.width, config.text_cfg.width)
    for width, heads in zip(widths, config.heads, strict=True):
        if not heads or width % heads:
            raise UserError(f"{source}: a width of {width} cannot be cut into {heads} heads")
    return config


def _defaults(config: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(config)}


def _without_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    missing = object()
    kept = {key: value for key, value in given.items() if key not in _IRRELEVANT}
    return {key: value for key, value in kept.items() if defaults.get(key, missing) != value}


def _explain(error: ValidationError, source: str) -> UserError:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return UserError(
            f"{source} describes a model that is not a plain ViT CLIP: {where} = {first['input']!r}",
            "prompts are defined for plain ViT CLIPs: ViT-B-32, ViT-B-16, ViT-L-14, ViT-H-14 and the like",
        )
    return UserError(f"{source}: {where}: {first['msg']} (got {first['input']!r})")


def _processor_pixels(folder: Path, config: ModelConfig) -> Preprocess | None:
    """The preprocessing in the config of transformers' image processor (its file name varies); None without one."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.is_file():
            content = read_json(path)
            try:
                given = processor_pixels(content.get("image_processor", content), str(path))
            except (TypeError, AttributeError):
                raise UserError(f"{path} is not the config of an image processor") from None
            return open_clip_pixels(given, config.vision_cfg.image_size, str(path))
    return None


def open_clip_pixels(given: Any, image_size: int, source: str) -> Preprocess | None:
    """The preprocessing in open_clip's `preprocess_cfg`; None if it has no mean and std.

    Raises:
        UserError: a kind of preprocessing that we don't support, or values of which only some are stated.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{source}: preprocess_cfg is not an object")
    sides = given.get("size", image_size)
    size = sides if isinstance(sides, int) else _one(sides)
    for key, value, ours in (("mode", given.get("mode", "RGB"), "RGB"), ("size", size, image_size)):
        if value != ours:
            raise UserError(
                f"{source} prepares frames with {key} = {value!r}; the model takes {ours!r}",
                "with another preprocessing the features would differ from those of the model's authors",
            )
    kinds = {ours: given[theirs] for theirs, ours in _KINDS.items() if theirs in given}
    stated = given.keys() & {"mean", "std"}
    if not stated:
        if kinds.items() - {("resize_mode", "shortest"), ("interpolation", "bicubic"), ("fill", 0)}:
            said = " and ".join(f"{key} = {value!r}" for key, value in kinds.items())
            raise UserError(f"{source} says {said}, but not mean and std of pixels", "add mean and std")
        return None
    if len(stated) < 2:
        raise UserError(f"{source} says the {stated.pop()} of pixels alone", "add the other of mean and std")
    try:
        return Preprocess.from_json({"size": size, "mean": given["mean"], "std": given["std"], **kinds})
    except UserError as error:
        raise UserError(f"{source}: {error.message}") from None


_KINDS = {"resize_mode": "resize_mode", "interpolation": "interpolation", "fill_color": "fill"}
"""open_clip's names of ways to resize, and ours."""


def _one(sides: Any) -> Any:
    """The side of a square that is given as two numbers."""
    square = isinstance(sides, list | tuple) and len(sides) == 2 and sides[0] == sides[1]
    return sides[0] if square else sides
