"""`Family`: recognises open_clip models of one architecture and wraps them as towers that accept prompts.

Each family is one file in `ga2clip/model/backbones/` or in a user's own package, registered in `BACKBONES`.
"""

from typing import Any, NamedTuple, Protocol

from torch import nn

from ga2clip.errors import UserError
from ga2clip.model.towers import TextTower, VisionTower
from ga2clip.registry import BACKBONES
from ga2clip.tokenizer import ClipTokenizer


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
    """

    vision: VisionTower
    text: TextTower
    logit_scale: nn.Parameter
    context_length: int
    embed_dim: int
    tokenizer: ClipTokenizer
    conventions: dict[str, Any]


class Family(Protocol):
    """A backbone family: the object that `ga2clip.register_backbone` registers."""

    def accepts(self, model: nn.Module) -> bool:
        """Whether an open_clip model belongs to this family."""

    def towers(self, model: nn.Module) -> Towers:
        """The towers of a model that `accepts` is true for, with the model's own weights."""


def towers_of(model: nn.Module, name: str) -> Towers:
    """The towers of an open_clip model.

    Raises:
        UserError: no family accepts its architecture.
    """
    for family_name in BACKBONES.names():
        family: Family = BACKBONES[family_name]
        if family.accepts(model):
            return family.towers(model)
    raise UserError(
        f"backbone '{name}' does not belong to a family that takes prompts ({', '.join(BACKBONES.names())})",
        "take ViT-B-32, ViT-B-16, ViT-L-14 or another plain ViT CLIP with a causal text tower",
    )
