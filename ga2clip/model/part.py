"""`Part`, the base class of a method's trainable pieces (prompts, coupling, adapters …).

Each part is one file in `ga2clip/model/parts/` or in a user's own package, registered with `PARTS.register`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.towers import LayerWeights
from ga2clip.model.towers import Tower as BlockTower
from ga2clip.registry import PARTS
from ga2clip.settings import Settings
from ga2clip.settings_reading import explain

PROMPT_STD = 0.02
"""Standard deviation of randomly initialised prompts, as in CoOp (IJCV 2022) and later methods."""

Tower = Literal["text", "vision"]
LearningRate = Literal["parts", "backbone"]


class Prompts(NamedTuple):
    """What enters the towers: `text[i]` (n, W_t) before text block i, `vision[i]` (m, W_v) before vision block i.

    text_weights, vision_weights: the weights that the blocks work with where parts change them, one entry per
    block; empty where no part does. Parts see them empty and change them by `Part.weight_changes`.
    """

    text: list[Tensor | None]
    vision: list[Tensor | None]
    text_weights: LayerWeights = ()
    vision_weights: LayerWeights = ()

    @property
    def text_tokens(self) -> int:
        """The number of positions of the text context that the prompts take."""
        first = self.text[0] if self.text else None
        return 0 if first is None else len(first)


class TowerSize(NamedTuple):
    """width: channels of a token (W). depth: number of blocks. hidden: width of a block's MLP inside.

    gates: weights into that hidden layer, 2 in a gated MLP. no_prompts: why nothing can enter the tower; empty where
    prompts and other weights can.
    """

    width: int
    depth: int
    hidden: int
    gates: int = 1
    no_prompts: str = ""


def tower_size(tower: BlockTower) -> TowerSize:
    """The sizes of a tower."""
    return TowerSize(tower.width, tower.depth, tower.hidden, tower.gates, tower.no_prompts)


def refuse_if_closed(size: TowerSize, what: str, hint: str) -> None:
    """Raises UserError for something that would enter a tower that takes nothing."""
    if size.no_prompts:
        raise UserError(f"the backbone takes no {what}: {size.no_prompts}", hint)


@dataclass(frozen=True)
class Site:
    """What `Part.build` gets to know about the model.

    Attributes:
        settings: of the run.
        classes: the names that the run is tuned on.
        text: size of the text tower.
        vision: size of the vision tower.
        embed_dim: D.
        hard_prompt: float32 (n, W_t), or None.
        phrase_prompts: (phrase, length) → text prompts of all layers, input layer first. Inserted into the untrained
            model, they have the effect of writing the phrase before every class name.
        frozen_classes: a function that returns the frozen features (C, D) of the scenario template filled with the
            class names.
        options: the table `parts.NAME` as an instance of the part's `options` model; None without such a table.
    """

    settings: Settings
    classes: Sequence[str]
    text: TowerSize
    vision: TowerSize
    embed_dim: int
    hard_prompt: Tensor | None
    phrase_prompts: Callable[[str, int], Sequence[Tensor]]
    frozen_classes: Callable[[], Tensor]
    options: Any = None


class Part(nn.Module):
    """One trainable piece of a method. Subclasses own parameters and override the methods where they change the model.

    Its parameters train and its state (buffers too) is what a run stores of it. Prompts and changed weights are
    computed once per update, before the batch is cut into micro-batches or the classes into chunks. On export they
    become constants, and `frame_features` and `text_features` are traced into the encoders. These two run once per
    micro-batch, so they must not draw random numbers: with dropout in them an update would depend on how it is cut.
    """

    order: int = 50
    """Parts are applied in this order; the built-in ones have 10 (soft prompts) to 40."""
    trains: frozenset[Tower] = frozenset()
    """The towers whose features change during training; features of the other towers are computed once and reused."""
    learning_rate: ClassVar[LearningRate] = "parts"
    """`parts` trains with the setting `training.lr`, `backbone` with `training.backbone_lr`."""
    options: ClassVar[type[BaseModel] | None] = None
    """The model of its own settings, the table `parts.NAME`; such a part is on if the settings have the table."""

    @classmethod
    def build(cls, site: Site) -> "Part | None":
        """Build the part for a model.

        Args:
            site: the settings, and what the part may need to know about the model.

        Returns:
            The part, or None if the settings don't ask for it.

        Raises:
            UserError: settings that contradict each other.
        """
        raise NotImplementedError

    def prompts(self, prompts: Prompts) -> Prompts:
        """The prompts of both towers, given those of the parts before; by default unchanged."""
        return prompts

    def weight_changes(self, tower: Tower) -> LayerWeights:  # noqa: ARG002 (for subclasses)
        """What is added to the weights of a tower's blocks, one entry per block: None or () for nothing.

        The frozen features that loss terms compare with are never made with these.
        """
        return ()

    def frame_features(self, features: Tensor) -> Tensor:
        """Change the frame features (N, D) that the vision tower returns; by default unchanged."""
        return features

    def video_features(self, video: Tensor, frames: Tensor) -> Tensor:  # noqa: ARG002 (for subclasses)
        """Change the video features (B, D), given the frame features (B, T, D); by default unchanged.

        Without any such part they are the means of the frame features. T is any number from 1 on, whatever the part
        was trained with. Export traces all of these together into a graph of its own.
        """
        return video

    def text_features(self, features: Tensor) -> Tensor:
        """Change the text features (C, D) that the text tower returns; by default unchanged."""
        return features

    def student_features(self, tower: Tower, features: Tensor) -> Tensor:  # noqa: ARG002 (for subclasses)
        """What residual distillation compares with the frozen features of a tower, given the tuned ones (N, D)."""
        return features

    def class_features(self, names: Sequence[str], encode: Callable[[Sequence[str]], Tensor]) -> Tensor:
        """Class features (C, D) of class names. `encode` computes them without this part.

        Change the classes that the model is tuned on and no others: a bundle stores those, and sends other names
        through its text encoder, so the export refuses a part that changes them here.
        """
        return encode(names)

    def describe(self) -> str:
        """What the part adds, in a few words for `ga2clip methods`."""
        raise NotImplementedError


def build_parts(site: Site) -> Iterator[tuple[str, Part]]:
    """Yields (name, part) for all parts that the settings switch on, built-in ones first and in a fixed order.

    Raises:
        UserError: unknown options of a part, or parts that can't be combined.
    """
    for name in [*BUILTIN_PARTS, *sorted(site.settings.parts.keys() - set(BUILTIN_PARTS))]:
        kind: type[Part] = PARTS[name]
        part = kind.build(replace(site, options=part_options(name, site.settings)))
        if part is not None:
            yield name, part


BUILTIN_PARTS = (
    *("text_prompt", "vision_prompt", "coupling", "inter_modal", "linear_probe", "froster"),
    *("pooling_transformer", "pooling_attention", "pooling_trend"),
)
"""The parts that other sections than `[parts]` switch on. The order in which they draw their random start values."""


def part_options(name: str, settings: Settings) -> BaseModel | None:
    """The checked table `parts.NAME`, or None without one.

    Raises:
        UserError: the part is unknown, has no settings of its own, or has no setting of that name.
    """
    table = settings.parts.get(name)
    if table is None:
        return None
    kind: type[Part] = PARTS[name]
    if kind.options is None:
        raise UserError(f"the part '{name}' has no settings under parts.{name}", "see the section [method]")
    try:
        return kind.options.model_validate(table)
    except ValidationError as error:
        raise explain(error, f"parts.{name}", kind.options) from None


def random_prompts(length: int, width: int, depth: int, start: Sequence[Tensor] = ()) -> nn.ParameterList:
    """`depth` prompts (length, width), normally distributed with std `PROMPT_STD`; the first are set to `start`."""
    layers = nn.ParameterList(nn.Parameter(torch.randn(length, width) * PROMPT_STD) for _ in range(depth))
    with torch.no_grad():
        for layer, value in zip(layers, start, strict=False):
            layer.copy_(value)
    return layers
