"""The architecture of any model of open_clip that a family takes, from a model config or a name; how it is built.

Plain CLIPs, whose sizes can be told from their weights, are read by `architecture.py`. Here the config says all.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, convert_to_custom_text_state_dict
from torch import Tensor, nn

from ga2clip.errors import UserError, first_line, unknown_name
from ga2clip.model.architecture import is_plain, one_side, open_clip_pixels, read_json
from ga2clip.model.backbone import load_exactly
from ga2clip.model.download import published_tokenizer
from ga2clip.model.family import support_of
from ga2clip.text import printable
from ga2clip.tokenizer import VOCABULARY, ClipTokenizer, Tokenizer
from ga2clip.tokenizer_files import tokenizer_for, tokenizer_like
from ga2clip.video import Preprocess

# Keys without an effect here: initialisation, dropout, downloads, and what our tokenizer is told elsewhere.
_IRRELEVANT = {
    "init_logit_scale",
    "patch_dropout",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "hf_model_pretrained",
    "output_tokens",
}


@dataclass(frozen=True)
class Blueprint:
    """An architecture according to one source.

    Attributes:
        config: open_clip's model config.
        quick_gelu: the activation of open_clip's own towers; None if the source doesn't state it.
        preprocess: None if the source doesn't state it.
        source: its name in messages.
    """

    config: Mapping[str, Any]
    quick_gelu: bool | None
    preprocess: Preprocess | None
    source: str

    @property
    def plain(self) -> bool:
        """Whether it is a plain ViT CLIP."""
        return is_plain(self.config)

    @property
    def image_size(self) -> int:
        """Pixels of a side of a frame."""
        size = self.config["vision_cfg"].get("image_size", CLIPVisionCfg.image_size)
        return int(one_side(size))

    @property
    def pixels(self) -> Preprocess:
        """The preprocessing of frames: as stated, else CLIP's own."""
        return self.preprocess or Preprocess(size=self.image_size)

    @property
    def label(self) -> str:
        """A name for people."""
        vision = self.config["vision_cfg"]
        given = self.source.removeprefix("open_clip's ")
        if given != self.source:
            return given
        return str(vision.get("timm_model_name") or f"{vision.get('width', 768)}x{vision.get('layers', 12)}")

    def check(self) -> None:
        """Raises UserError for a model that no family takes."""
        if (support := support_of(self.config)).level == "none":
            raise UserError(f"{self.source}: not supported: {support.reason}", "see `ga2clip backbones`")

    def tokenizer(self, folder: Path | None) -> Tokenizer:
        """The tokenizer that the model was trained with.

        Args:
            folder: where its weights are; a tokenizer that isn't CLIP's is read from there. None: open_clip's own copy
                of the published one, from its cache or downloaded.

        Raises:
            UserError: it isn't there, has another number of ids than the text tower, or not its end token.
        """
        text = self.config["text_cfg"]
        if folder is None and text.get("hf_tokenizer_name"):
            tokenizer = tokenizer_like(published_tokenizer(self.label.partition("/")[0]))
        else:
            tokenizer = tokenizer_for(text, folder)
        held, needed = tokenizer.size, text.get("vocab_size", VOCABULARY)
        if held > needed or (isinstance(tokenizer, ClipTokenizer) and held != needed):
            raise UserError(
                f"{self.source} has a vocabulary of {needed:,}; its tokenizer has {held:,}",
                "it was trained with another tokenizer, so it would be given the wrong words",
            )
        end = text.get("eos_id", CLIPTextCfg.eos_id)
        if text.get("pool_type") == "eos" and end not in tokenizer.tokens(["a"]):
            raise UserError(
                f"{self.source} reads a text's feature at the token {end}, with which its tokenizer ends no text",
                "correct eos_id, or put the model's own tokenizer beside its weights",
            )
        return tokenizer

    def build(self) -> nn.Module:
        """The model with random weights, in float32 on the default device.

        Raises:
            UserError: no family takes it, or open_clip can't build it.
        """
        self.check()
        config = copy.deepcopy(dict(self.config))
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        config["vision_cfg"]["timm_model_pretrained"] = False
        config["quick_gelu"] = bool(self.quick_gelu)
        if unknown := _unknown_keys(config, kind):
            raise UserError(
                printable(f"{self.source} has keys that open_clip does not know: {', '.join(unknown)}")
            )
        try:
            return kind(**config)
        except Exception as error:  # open_clip and timm raise all kinds for values that make no model
            raise UserError(
                f"{self.source} describes no model that open_clip builds: {first_line(error)}"
            ) from None


def _unknown_keys(config: dict[str, Any], kind: type[nn.Module]) -> list[str]:
    """Keys of a model config that no argument takes, those of its towers too."""
    towers = (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg))
    unknown = [key for key in config if key not in inspect.signature(kind).parameters]
    for tower, fields in towers:
        unknown += [f"{tower}.{key}" for key in config[tower] if key not in fields.__dataclass_fields__]
    return unknown


def blueprint_of_name(name: str) -> Blueprint:
    """The architecture of an open_clip name such as `ViT-B-16-SigLIP`, or of published weights, `EVA02-B-16/TAG`.

    A name alone states neither activation (unless its config does) nor preprocessing.

    Raises:
        UserError: unknown name or tag.
    """
    model, _, tag = name.partition("/")
    if model not in open_clip.list_models():
        raise unknown_name("backbone", model, open_clip.list_models())
    plain = Blueprint(open_clip.get_model_config(model), None, None, f"open_clip's {name}")
    plain = replace(plain, quick_gelu=plain.config.get("quick_gelu"))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not tag:
        return plain
    if tag not in tags:
        raise unknown_name(f"pretrained tag for {model}", tag, tags)
    quick = bool(plain.quick_gelu or open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"))
    return replace(plain, quick_gelu=quick, preprocess=_pixels_of_tag(plain, model, tag))


def usual_pixels(name: str) -> Preprocess | None:
    """The preprocessing of all published weights of an open_clip name; None where they differ or there are none."""
    plain = blueprint_of_name(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    published = {_pixels_of_tag(plain, name, tag) for tag in tags}
    return published.pop() if len(published) == 1 else None


def differing_tags(name: str) -> list[str]:
    """Tags of open_clip under `name` whose activation is not the one of the config."""
    quick = bool(open_clip.get_model_config(name).get("quick_gelu"))
    tags = open_clip.list_pretrained_tags_by_model(name)
    return [tag for tag in tags if bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu")) != quick]


def blueprint_of_file(path: Path) -> Blueprint | None:
    """The architecture in an `open_clip_config.json` or a model config of open_clip.

    None for a file that is neither.

    Raises:
        UserError: not JSON, or pixel values that make no sense.
    """
    content = read_json(path)
    config = content.get("model_cfg", content)
    towers = ("vision_cfg", "text_cfg")
    if not isinstance(config, Mapping) or not all(isinstance(config.get(key), Mapping) for key in towers):
        return None
    found = Blueprint(config, bool(config.get("quick_gelu")), None, str(path))
    vision = found.config["vision_cfg"]
    if not isinstance(one_side(vision.get("image_size", 1)), int):
        raise UserError(f"{path}: image_size is not the number of pixels of a square's side")
    if not isinstance(vision.get("timm_model_name") or "", str):
        raise UserError(f"{path}: timm_model_name is not a name")
    pixels = open_clip_pixels(content.get("preprocess_cfg", {}), found.image_size, found.source)
    return replace(found, preprocess=pixels)


def refuse_other_configs(blueprints: Sequence[Blueprint], file: str) -> None:
    """Raises UserError where two sources state different models."""
    first, *others = blueprints
    for other in others:
        ours, theirs = _stated(first), _stated(other)
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{file}: {first.source} says {key} = {ours.get(key)!r}; {other.source} says {theirs.get(key)!r}",
                    "correct the wrong one, or leave it out",
                )


def load_model(blueprint: Blueprint, tensors: Mapping[str, Tensor], source: str) -> nn.Module:
    """The model of a blueprint with the tensors of a file, which must be exactly its own.

    Raises:
        UserError: missing, unexpected or misshapen tensors, listed by name; fewer numbers than the model has.
    """
    for section in ("vision_cfg", "text_cfg"):  # before time is spent on building as many
        layers = blueprint.config[section].get("layers", 1)
        if isinstance(layers, int) and layers > len(tensors):
            raise UserError(
                f"{blueprint.source} says layers = {layers}, and the file has {len(tensors)} tensors"
            )
    with torch.device("meta"):
        hollow = blueprint.build()
    needed = sum(p.numel() for p in hollow.parameters())
    held = sum(value.numel() for value in tensors.values())
    if held < needed:  # before memory is allocated for it
        raise UserError(
            f"{source} holds {held:,} numbers, and the model of {blueprint.source} has {needed:,}",
            "it is another model's file, or incomplete",
        )
    if isinstance(hollow, open_clip.CustomTextCLIP) and "text_projection" in tensors:
        tensors = convert_to_custom_text_state_dict(dict(tensors))
    model = blueprint.build()
    load_exactly(model, tensors, source)
    return model


def _pixels_of_tag(blueprint: Blueprint, model: str, tag: str) -> Preprocess | None:
    weights = open_clip.get_pretrained_cfg(model, tag)
    return open_clip_pixels(weights, blueprint.image_size, f"open_clip's {model}/{tag}")


def _stated(blueprint: Blueprint) -> dict[str, Any]:
    """What a config says, flat, defaults filled in, without what has no effect."""
    config = blueprint.config
    flat: dict[str, Any] = {"custom_text": False}
    for section, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        try:
            values = asdict(kind(**config[section]))
        except TypeError as error:
            raise UserError(f"{blueprint.source}: {section}: {first_line(error)}") from None
        flat |= {f"{section}.{key}": value for key, value in values.items() if key not in _IRRELEVANT}
    rest = {key: value for key, value in config.items() if not key.endswith("_cfg") and key != "quick_gelu"}
    return flat | {key: value for key, value in rest.items() if key not in _IRRELEVANT}
