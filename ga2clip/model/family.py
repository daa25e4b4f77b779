"""`Family`: recognises open_clip models of one architecture and wraps them as towers that accept prompts.

Each family is one file in `ga2clip/model/backbones/` or in a user's own package, registered in `BACKBONES`.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import open_clip
from torch import nn

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.blocks import activation_name
from ga2clip.model.text_tower import CLIP_START, TextTower, text_of
from ga2clip.model.towers import VisionTower
from ga2clip.registry import BACKBONES
from ga2clip.tokenizer import Tokenizer

Level = Literal["full", "text", "none"]
"""What can be done with a backbone. full: everything. text: everything but what enters the vision tower (vision
prompts, maps into it, LoRA there). none: nothing."""


class Towers(NamedTuple):
    """The two towers of a model. A family with another architecture subclasses the towers.

    Attributes:
        vision: (pixels float (N, 3, H, W), prompts per layer) → frame features (N, D).
        text: (ids int64 (C, S), prompts per layer) → text features (C, D).
        logit_scale: scalar, the logarithm of the factor on cosines.
        context_length: tokens of a text, with SOT and EOT.
        embed_dim: D.
        tokenizer: texts → ids.
        conventions: what influences the features but can't be seen in the weights, as JSON: heads, activation. A run
            stores it, and loading another is refused.
        logit_bias: scalar, what a sigmoid model adds to its logits; None for a softmax model.
    """

    vision: VisionTower
    text: TextTower
    logit_scale: nn.Parameter
    context_length: int
    embed_dim: int
    tokenizer: Tokenizer
    conventions: dict[str, Any]
    logit_bias: nn.Parameter | None = None


class Support(NamedTuple):
    """What a family makes of an architecture.

    Attributes:
        family: its name in `BACKBONES`; empty where no family takes the architecture.
        level: what can be done.
        reason: why not everything; empty for `full`.
    """

    family: str
    level: Level
    reason: str = ""


class Family(Protocol):
    """A backbone family: the object that `ga2clip.register_backbone` registers."""

    def support(self, config: Mapping[str, Any]) -> Support | None:
        """What can be done with models of an open_clip model config, told without building one.

        None for a config of another family.
        """

    def accepts(self, model: nn.Module) -> bool:
        """Whether an open_clip model belongs to this family."""

    def towers(self, model: nn.Module, tokenizer: Tokenizer) -> Towers:
        """The towers of a model that `accepts` is true for, with the model's own weights.

        tokenizer: the one that the model was trained with.
        """


def assemble(
    model: Any, vision: VisionTower, tokenizer: Tokenizer, vision_conventions: Mapping[str, Any]
) -> Towers:
    """The towers of an open_clip model whose text tower is open_clip's own.

    vision_conventions: heads and activation of the vision tower, and what else its weights don't show.
    """
    text = TextTower(text_of(model), tokenizer.start, tokenizer.pad)
    block: Any = text.blocks[0]
    ours = {"heads": block.attn.num_heads, "activation": activation_name(block.mlp.gelu)}
    keys = sorted(ours.keys() | vision_conventions.keys())
    conventions: dict[str, Any] = {
        key: {
            tower: said[key]
            for tower, said in (("vision", vision_conventions), ("text", ours))
            if key in said
        }
        for key in keys
    }
    reading = {"pool": text.pool, "causal": text.causal, "start": text.start_id}
    if reading != {"pool": "argmax", "causal": True, "start": CLIP_START}:  # as in the first versions' runs
        conventions["text"] = {**reading, "pad": text.pad_id, "eos": text.eos_id}
    return Towers(
        vision,
        text,
        model.logit_scale,
        text.context_length,
        text.embed_dim,
        tokenizer,
        conventions,
        model.logit_bias,
    )


def towers_of(model: nn.Module, name: str, tokenizer: Tokenizer) -> Towers:
    """The towers of an open_clip model.

    Raises:
        UserError: no family accepts its architecture.
    """
    for family_name in BACKBONES.names():
        family: Family = BACKBONES[family_name]
        if family.accepts(model):
            return family.towers(model, tokenizer)
    raise UserError(
        f"backbone '{name}' does not belong to a family that is supported ({', '.join(BACKBONES.names())})",
        "`ga2clip backbones` lists what is",
    )


def support(name: str) -> Support:
    """What can be done with an architecture of open_clip, from its config; nothing is built.

    Raises:
        UserError: unknown name.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        raise unknown_name("backbone", name, open_clip.list_models())
    return support_of(config)


def support_of(config: Mapping[str, Any]) -> Support:
    """As `support`, for an open_clip model config."""
    if config.get("nonscalar_logit_scale"):
        return Support("", "none", "its temperature is not one number")
    for family_name in BACKBONES.names():
        family: Family = BACKBONES[family_name]
        if (found := family.support(config)) is not None:
            return found
    tower = config["vision_cfg"].get("timm_model_name", "")
    return Support("", "none", f"its vision tower {tower} is of a kind that no family takes")
