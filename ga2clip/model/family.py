"""A family of backbones: which open_clip models belong to it, and how they become towers that take prompts.

A family is one file in `ga2clip/model/backbones/`, or in a user's own package, registered in `BACKBONES`.
"""

from typing import NamedTuple, Protocol

from torch import nn

from ga2clip.errors import UserError
from ga2clip.model.towers import TextTower, VisionTower
from ga2clip.registry import BACKBONES


class Towers(NamedTuple):
    """The two towers of a model; a family of other architectures subclasses them.

    vision: pixels (N, 3, H, W), prompts per layer → (N, D). text: ids (C, S), prompts per layer → (C, D).
    logit_scale: () the logarithm of what multiplies cosines. context_length: tokens of a text, SOT and EOT included.
    """

    vision: VisionTower
    text: TextTower
    logit_scale: nn.Parameter
    context_length: int
    embed_dim: int


class Family(Protocol):
    """What a file of `ga2clip/model/backbones/` registers under its name."""

    def accepts(self, model: nn.Module) -> bool:
        """Whether an open_clip model is of this family."""

    def towers(self, model: nn.Module) -> Towers:
        """The towers of such a model, with its own weights."""


def towers_of(model: nn.Module, name: str) -> Towers:
    """The towers of an open_clip model.

    Raises:
        UserError: no family knows its architecture.
    """
    for family_name in BACKBONES.names():
        family: Family = BACKBONES[family_name]
        if family.accepts(model):
            return family.towers(model)
    raise UserError(
        f"backbone '{name}' is of no family that prompts are defined for ({', '.join(BACKBONES.names())})",
        "take ViT-B-32, ViT-B-16, ViT-L-14 or another plain ViT CLIP with a causal text tower",
    )
