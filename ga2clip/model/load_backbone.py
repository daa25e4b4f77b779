"""Loads a CLIP as a `Backbone`: the built-in one, one of open_clip's, or one from a weights file.

The architecture of a file is never guessed. It comes from a config beside the file, from the name that the user gives,
or from a file format that only one program writes; all of these must agree with each other and with the weights.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

import open_clip
import torch
from torch import Tensor

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.architecture import (
    OPENAI,
    Architecture,
    fitting_names,
    named,
    openai_layout,
    published_with_other_pixels,
    read_config,
    sizes_of,
    variants,
)
from ga2clip.model.backbone import Backbone, load_exactly
from ga2clip.model.blueprint import (
    Blueprint,
    blueprint_of_file,
    blueprint_of_name,
    differing_tags,
    load_model,
    refuse_other_configs,
    usual_pixels,
)
from ga2clip.model.checkpoint import Checkpoint, read_checkpoint, with_text_tower
from ga2clip.model.download import published_clip
from ga2clip.model.licences import licence_of
from ga2clip.model.weights import read_weights
from ga2clip.settings import BackboneSettings
from ga2clip.tokenizer import VOCABULARY
from ga2clip.video import Preprocess

_log = logging.getLogger(__name__)

BUILTIN = "tiny"
_ACTIVATIONS: dict[bool | None, str] = {True: "QuickGELU", False: "GELU"}
_PIXELS = "mean {0.mean} and std {0.std} ({0.resize_mode}, {0.interpolation})"
_ASSUMED_PIXELS = (
    "nothing says how the pixels of {} are normalised: CLIP's mean and standard deviation are taken"
)
T = TypeVar("T")


@lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    """Log a warning that is new to this process, which may load the same weights several times."""
    _log.warning(message)


def load_backbone(settings: BackboneSettings) -> Backbone:
    """The CLIP that the settings name, in float32 on the CPU.

    Raises:
        UserError: unknown name or tag, failed download, missing file, unknown or contradictory architecture, weights
            that don't match the architecture exactly, or an image size that the model can't take.
    """
    return _resized(_load(settings), settings.image_size)


def default_weights(name: str) -> str:
    """The weights of a backbone that need not be named: the built-in ones, OpenAI's, or the only ones there are.

    Raises:
        UserError: unknown name, or an architecture that has none of these, with its tags.
    """
    if name == BUILTIN:
        return "builtin"
    if name not in open_clip.list_models():
        raise unknown_name("backbone", name, [BUILTIN, *open_clip.list_models()])
    tags = open_clip.list_pretrained_tags_by_model(name)
    if "openai" in tags:
        return "openai"
    if len(tags) != 1:
        known = f"open_clip has {', '.join(tags)}" if tags else "open_clip has none: give a file or a folder"
        raise UserError(f"the weights of {name} must be named", f"--pretrained TAG|PATH; {known}")
    return tags[0]


def _resized(backbone: Backbone, image_size: int) -> Backbone:
    """The backbone, made to take frames of another size; 0: of its own."""
    if image_size not in (0, backbone.preprocess.size):
        backbone.vision.resize(image_size)
        backbone.preprocess = replace(backbone.preprocess, size=image_size)
    return backbone


def _load(settings: BackboneSettings) -> Backbone:
    if settings.from_file:
        return _load_file(settings)
    if settings.text_from:
        raise UserError(
            "backbone.text_from needs a file with a vision tower alone", "give it: --pretrained FILE"
        )
    if settings.pretrained == "builtin":
        return _load_builtin(settings.name)
    return _load_open_clip(settings.name, settings.pretrained)


def backbone_to_time(settings: BackboneSettings) -> Backbone:
    """A CLIP that costs the same to compute: with random weights where the real ones would have to be downloaded.

    Raises UserError as `load_backbone`, but for the download.
    """
    if settings.from_file or settings.pretrained == "builtin":
        return load_backbone(settings)
    blueprint = blueprint_of_name(f"{settings.name}/{settings.pretrained}")
    # CLIP's tokenizer stands for one that would have to be downloaded; an embedding of more rows costs no time.
    text = {**blueprint.config["text_cfg"], "vocab_size": VOCABULARY}
    clip = replace(blueprint, config={**blueprint.config, "text_cfg": text}).build()
    backbone = Backbone(clip, name=blueprint.label, licence="none", preprocess=blueprint.pixels)
    return _resized(backbone, settings.image_size)


def backbone_from_weights(
    weights: Mapping[str, Tensor],
    *,
    source: str,
    quick_gelu: bool,
    head_width: int,
    licence: str = "as its source says",
) -> Backbone:
    """A CLIP from a state dict whose architecture the caller knows.

    Args:
        weights: tensors of any float dtype in OpenAI's naming.
        source: where they are from, for messages.
        quick_gelu: the activation, QuickGELU or GELU.
        head_width: channels per head of both towers.
        licence: of the weights.

    Raises:
        UserError: missing, unexpected or misshapen tensors, listed by name.
    """
    sizes = sizes_of(weights, source)
    return _build(
        weights, openai_layout(sizes, source, quick_gelu=quick_gelu, head_width=head_width), source, licence
    )


def _load_file(settings: BackboneSettings) -> Backbone:
    checkpoint = text = read_checkpoint(settings.pretrained)
    tensors = checkpoint.tensors
    if settings.text_from:
        text = read_checkpoint(settings.text_from)
        tensors = with_text_tower(checkpoint, text)
    elif not checkpoint.has_text_tower:
        raise UserError(
            f"{checkpoint.file} holds a vision tower alone",
            "name the file with the text tower that belongs to it: --set backbone.text_from=FILE",
        )
    source = str(checkpoint.file)
    stated = _blueprints(checkpoint, settings.name)
    if not all(blueprint.plain for blueprint in stated):
        if settings.text_from:
            raise UserError(
                "backbone.text_from is for plain ViT CLIPs", f"leave it out, or correct {stated[0].source}"
            )
        return _load_stated(checkpoint, stated, settings)
    sizes = sizes_of(tensors, source)
    if sizes["vocabulary"] != VOCABULARY:
        raise UserError(
            f"{source} has a vocabulary of {sizes['vocabulary']:,}; CLIP's tokenizer has {VOCABULARY:,}",
            "it was trained with another tokenizer, so it would be given the wrong words",
        )
    known = _known_architecture([checkpoint] if text is checkpoint else [checkpoint, text], sizes, settings)
    if known.preprocess is None:
        _refuse_other_pixels(known, settings.name, source)
    if known.quick_gelu is None or known.preprocess is None:
        _say_what_was_taken(known, settings.name, source)
    return _build(tensors, known, source, "as its source says")


def _blueprints(checkpoint: Checkpoint, name: str) -> list[Blueprint]:
    """What open_clip's configs say of a file: the first one beside it, and that of the user's `backbone.name`."""
    beside = (
        blueprint_of_file(path) for path in checkpoint.configs if path != checkpoint.file and path.is_file()
    )
    found = [next(filter(None, beside), None)]
    if name.endswith(".json"):
        found.append(blueprint_of_file(Path(name).expanduser()))
    elif name.partition("/")[0] in open_clip.list_models():
        found.append(blueprint_of_name(name))
    return [blueprint for blueprint in found if blueprint is not None]


def _load_stated(checkpoint: Checkpoint, stated: Sequence[Blueprint], settings: BackboneSettings) -> Backbone:
    """A model of another kind than a plain CLIP, whose configs say all of it."""
    file = str(checkpoint.file)
    refuse_other_configs(stated, file)
    activations = [(blueprint.source, blueprint.quick_gelu) for blueprint in stated]
    activations += [("backbone.quick_gelu", settings.quick_gelu)]
    activations += [(f"{file} ({checkpoint.origin})", True)] if checkpoint.origin else []
    activation = _agreed(file, [(who, _ACTIVATIONS.get(value)) for who, value in activations], "{0}")
    preprocess = _agreed(file, [(b.source, b.preprocess) for b in stated], _PIXELS)
    quick_gelu = _is_quick(activation)
    if quick_gelu is None and (tags := differing_tags(settings.name)):
        _warn_once(
            f"{file} is read as open_clip's {settings.name}, with GELU; for the published weights {', '.join(tags)}, "
            f"which have QuickGELU, say --backbone {settings.name}/TAG"
        )
    if preprocess is None and settings.name in open_clip.list_models():
        preprocess = usual_pixels(settings.name)
    if preprocess is None:
        _warn_once(_ASSUMED_PIXELS.format(file))
    blueprint = replace(stated[-1], quick_gelu=quick_gelu, preprocess=preprocess)
    blueprint.check()
    tokenizer = blueprint.tokenizer(checkpoint.file.parent)
    model = load_model(blueprint, checkpoint.tensors, file)
    return Backbone(
        model,
        name=blueprint.label,
        licence="as its source says",
        preprocess=blueprint.pixels,
        tokenizer=tokenizer,
    )


def _known_architecture(
    files: Sequence[Checkpoint], sizes: Mapping[str, int], settings: BackboneSettings
) -> Architecture:
    """The architecture of the files of a CLIP, from all sources that state it.

    What one file says of itself says nothing of another, so each needs a source of its own or the user's name.

    Raises:
        UserError: a file without a source, or sources that contradict each other.
    """
    by_name = _from_name(settings.name, sizes)
    sources = []
    for read in files:
        own = _beside(read) + ([openai_layout(sizes, f"{read.file} ({read.origin})")] if read.origin else [])
        if not own and not by_name:
            raise _unknown_architecture(str(read.file), sizes)
        sources += own
    sources += by_name
    file = " with ".join(str(read.file) for read in files)
    for source in sources:
        _refuse_other_sizes(source, sizes, file)
    _agreed(file, [(s.source, s.config.heads) for s in sources], "{0[0]} + {0[1]} heads")
    activations = [(s.source, s.quick_gelu) for s in sources] + [("backbone.quick_gelu", settings.quick_gelu)]
    activation = _agreed(file, [(who, _ACTIVATIONS.get(value)) for who, value in activations], "{0}")
    preprocess = _agreed(file, [(s.source, s.preprocess) for s in sources], _PIXELS)
    quick_gelu = _is_quick(activation)
    return replace(sources[0], quick_gelu=quick_gelu, preprocess=preprocess)


def _is_quick(activation: str | None) -> bool | None:
    """Whether an activation is QuickGELU; None for None."""
    return None if activation is None else activation == _ACTIVATIONS[True]


def _agreed(file: str, said: Sequence[tuple[str, T | None]], words: str) -> T | None:
    """The value that all sources agree on; None if no source states one.

    Raises:
        UserError: two sources state different values.
    """
    stated = [(source, value) for source, value in said if value is not None]
    if not stated:
        return None
    if any(value != stated[0][1] for _, value in stated):
        raise UserError(
            f"{file}: {'; '.join(f'{source} says {words.format(value)}' for source, value in stated)}",
            "correct the wrong one, or leave it out",
        )
    return stated[0][1]


def _beside(checkpoint: Checkpoint) -> list[Architecture]:
    """The first config beside a file that describes a CLIP, if there is one."""
    for path in checkpoint.configs:
        if path != checkpoint.file and path.is_file() and (architecture := read_config(path)):
            return [architecture]
    return []


def _from_name(name: str, sizes: Mapping[str, int]) -> list[Architecture]:
    """The architecture by the user's `backbone.name`; empty for the default and for an empty name."""
    if name in ("", BUILTIN):
        return []
    if name == OPENAI:
        return [openai_layout(sizes, f"--backbone {OPENAI}")]
    if not name.endswith(".json"):
        return [named(name)]
    architecture = read_config(Path(name).expanduser())
    if architecture is None:
        raise UserError(
            f"{name} is not a model config", "it needs vision_cfg and text_cfg, as open_clip's have"
        )
    return [architecture]


def _refuse_other_sizes(said: Architecture, sizes: Mapping[str, int], file: str) -> None:
    wrong = [
        f"{what} {sizes[what]}, not {size}"
        for what, size in said.config.sizes().items()
        if sizes[what] != size
    ]
    if wrong:
        raise UserError(
            f"{file} does not match {said.source}: {'; '.join(wrong)}",
            f"these sizes are those of {', '.join(fits)}" if (fits := fitting_names(sizes)) else None,
        )


def _unknown_architecture(file: str, sizes: Mapping[str, int]) -> UserError:
    fits = fitting_names(sizes)
    example = (
        " or ".join(f"--backbone {name}" for name in fits[:4]) or "--backbone FILE.json (a model config)"
    )
    return UserError(
        f"the architecture of {file} is unknown: activation and heads can't be seen in weights",
        f"add it: {example}; --backbone openai for weights of OpenAI's CLIPs and what was tuned from them; "
        "or put its open_clip_config.json or config.json beside it",
    )


def _refuse_other_pixels(known: Architecture, name: str, file: str) -> None:
    """CLIP's pixel values are no safe assumption where published weights of this architecture have others.

    An open_clip name that the user gives is a word for its usual values.
    """
    if name in open_clip.list_models() or not (others := published_with_other_pixels(known)):
        return
    raise UserError(
        f"{file}: nothing says how its pixels are normalised, and published weights of this architecture differ "
        f"in that: {', '.join(others[:4])} are not normalised as CLIP is",
        "add its publisher's preprocessor_config.json, or preprocess_cfg to its open_clip_config.json; or name "
        f"its weights: --backbone {others[0]}, or --backbone {others[0].partition('/')[0]} for CLIP's values",
    )


def _say_what_was_taken(known: Architecture, name: str, file: str) -> None:
    """A warning that pixel values were assumed, or that published weights of an open_clip name differ from it."""
    named_alone = name in open_clip.list_models()
    if named_alone and (tags := variants(name, activation=known.quick_gelu is None)):
        taken = "GELU and CLIP's pixel values" if known.quick_gelu is None else "CLIP's pixel values"
        _warn_once(
            f"{file} is read as open_clip's {name}, with {taken}; for the published weights {', '.join(tags)}, "
            f"which differ in that, say --backbone {name}/TAG"
        )
    elif known.preprocess is None:
        _warn_once(_ASSUMED_PIXELS.format(file))


def _build(weights: Mapping[str, Tensor], architecture: Architecture, source: str, licence: str) -> Backbone:
    # Before memory is allocated for the model, check that the file has enough data for it.
    held = sum(value.numel() for value in weights.values())
    if held < architecture.config.weights:
        raise UserError(
            f"{source} holds {held:,} numbers, and the model of its shapes has {architecture.config.weights:,}",
            "the file is incomplete or damaged",
        )
    clip = architecture.build()
    load_exactly(clip, weights, source)
    return Backbone(clip, name=_describe(architecture), licence=licence, preprocess=architecture.pixels)


def _load_builtin(name: str) -> Backbone:
    if name not in ("", BUILTIN):
        model, _, tag = name.partition("/")
        if model not in open_clip.list_models():
            raise unknown_name("backbone", name, [BUILTIN, *open_clip.list_models()])
        hint = (
            f"--backbone {model} --pretrained {tag or 'openai'} downloads them; --pretrained FILE reads them; "
            f"'{BUILTIN}' is built in"
        )
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
    """The full token embedding: the stored rows in their places, zeros for tokens that pre-training never saw."""
    ids, rows = tensors.pop("token_embedding.ids"), tensors.pop("token_embedding.rows")
    whole = torch.zeros(vocabulary, rows.shape[1])
    whole[ids.long()] = rows.float()
    return {**tensors, "token_embedding.weight": whole}


def _load_open_clip(name: str, tag: str) -> Backbone:
    if name in ("", BUILTIN):
        tag_of = f"such as --backbone ViT-B-16 --pretrained {tag}"
        raise UserError(
            f"--pretrained {tag} needs the name of an architecture"
            + (f"; '{BUILTIN}' has its built-in weights only" if name else ""),
            f"for the folder of that name write ./{tag}" if Path(tag).is_dir() else tag_of,
        )
    if Path(tag).is_dir() and not open_clip.get_pretrained_cfg(name, tag):
        raise UserError(
            f"'{tag}' is not a pretrained tag of {name}", f"for the folder of that name write ./{tag}"
        )
    architecture = blueprint_of_name(f"{name}/{tag}")
    architecture.check()
    tokenizer = architecture.tokenizer(None)  # small, so before the weights
    clip = published_clip(name, tag, quick_gelu=bool(architecture.quick_gelu))
    return Backbone(
        clip.float(),
        name=f"{name}/{tag}",
        licence=licence_of(name, tag).name,
        preprocess=architecture.pixels,
        tokenizer=tokenizer,
    )


def _describe(architecture: Architecture) -> str:
    vision = architecture.config.vision_cfg
    sizes = {(768, 12): "ViT-B", (1024, 24): "ViT-L", (1280, 32): "ViT-H"}
    size = sizes.get((vision.width, vision.layers), f"ViT-{vision.width}x{vision.layers}")
    return f"{size}-{vision.patch_size}"
