"""Low-rank changes of a tower's weights: LoRA."""

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.blocks import BlockWeights
from ga2clip.model.part import Part, Site, Tower, TowerSize, refuse_if_closed
from ga2clip.model.towers import LayerWeights
from ga2clip.registry import PARTS

Weight = Literal["q", "k", "v", "o", "mlp"]


class Options(BaseModel):
    """The table `[parts.lora]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: int = Field(default=2, ge=1)
    alpha: float = Field(default=1.0, gt=0)
    """A change is alpha / rank · B A."""
    weights: tuple[Weight, ...] = Field(default=("q", "k", "v"), min_length=1)
    """Which weights change: of queries, keys, values and the output of attention, both of the MLP."""
    layers: tuple[int, ...] = ()
    """Numbers of the blocks that change, from 1; none: all."""
    towers: tuple[Tower, ...] = Field(default=("text", "vision"), min_length=1)


class LowRank(nn.Module):
    """A change (out, in) of a weight: scale · B A, with B (out, r) and A (r, in). B starts at zero."""

    def __init__(self, width_in: int, width_out: int, rank: int, scale: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, width_in))
        self.b = nn.Parameter(torch.zeros(width_out, rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self) -> Tensor:
        """The change, in the precision of its parameters whatever autocast says: it is small beside the weight."""
        with torch.autocast(self.a.device.type, enabled=False):
            return self.scale * (self.b @ self.a)


class BlockChange(nn.ModuleDict):
    """The changes of one block, by weight."""

    def __init__(self, options: Options, size: TowerSize) -> None:
        super().__init__()
        width, hidden = size.width, size.hidden
        shapes = dict.fromkeys(("q", "k", "v", "o"), (width, width))
        shapes |= {"c_fc": (width, size.gates * hidden), "c_proj": (hidden, width)}
        changed = {*options.weights, *(("c_fc", "c_proj") if "mlp" in options.weights else ())}
        scale = options.alpha / options.rank
        for name, (width_in, width_out) in shapes.items():
            if name in changed:
                self[name] = LowRank(width_in, width_out, options.rank, scale)

    def forward(self) -> BlockWeights:
        """What is added to the block's weights."""
        found: dict[str, Tensor] = {name: change() for name, change in self.items()}
        packed = [found.get(name) for name in ("q", "k", "v")]
        some = next((change for change in packed if change is not None), None)
        in_proj = None
        if some is not None:
            in_proj = torch.cat([torch.zeros_like(some) if change is None else change for change in packed])
        return BlockWeights(in_proj, found.get("o"), found.get("c_fc"), found.get("c_proj"))


@PARTS.register("lora")
class LoRA(Part):
    """Weights W + alpha / rank · B A of attention and MLP in either tower: LoRA (ICLR 2022), eq. 3.

    The defaults are those of CLIP-LoRA (CVPRW 2024, arXiv 2405.18541), with one set of settings for every dataset and
    number of shots: both towers, all layers, queries, keys and values, rank 2, alpha 1. Two things differ from its
    authors' code: that scales by alpha / √rank, which is `alpha` 1.41 here, and drops a quarter of the inputs of A in
    training, which is left out, since the product is computed once per update and not once per token. At the start B
    is zero and the model the one without the part. Export adds the changes to the weights.
    """

    options = Options

    def __init__(self, options: Options, sizes: dict[Tower, TowerSize]) -> None:
        super().__init__()
        self.trains = frozenset(options.towers)
        self._options = options
        self._depth = {tower: size.depth for tower, size in sizes.items()}
        self.towers = nn.ModuleDict(
            {
                tower: nn.ModuleDict(
                    {str(n): BlockChange(options, sizes[tower]) for n in _layers(options, sizes[tower])}
                )
                for tower in sizes
            }
        )

    @classmethod
    def build(cls, site: Site) -> "LoRA | None":
        """On with the table `[parts.lora]`.

        Raises:
            UserError: a layer that a tower has not, or a text tower that a linear probe doesn't use.
        """
        options: Options | None = site.options
        if options is None:
            return None
        if site.settings.method.linear_probe and "text" in options.towers:
            raise UserError(
                "a linear probe has rows of its own in place of class texts: LoRA in the text tower would not train",
                """--set 'parts.lora.towers=["vision"]'""",
            )
        sizes: dict[Tower, TowerSize] = {"text": site.text, "vision": site.vision}
        sizes = {tower: size for tower, size in sizes.items() if tower in options.towers}
        if "vision" in sizes:
            refuse_if_closed(site.vision, "LoRA there", """--set 'parts.lora.towers=["text"]'""")
        for tower, size in sizes.items():
            wrong = [number for number in options.layers if not 1 <= number <= size.depth]
            if wrong:
                raise UserError(
                    f"parts.lora.layers: the {tower} tower has the layers 1 to {size.depth}, not {wrong[0]}"
                )
        return cls(options, sizes)

    def weight_changes(self, tower: Tower) -> LayerWeights:
        """The low-rank changes of the chosen blocks."""
        if tower not in self.towers:
            return ()
        blocks = self.towers[tower]
        assert isinstance(blocks, nn.ModuleDict)
        numbers = map(str, range(1, self._depth[tower] + 1))
        return [blocks[number]() if number in blocks else None for number in numbers]

    def describe(self) -> str:
        """Rank, towers and weights."""
        where = " and ".join(self.towers)
        return f"LoRA of rank {self._options.rank} ({where}: {', '.join(self._options.weights)})"


def _layers(options: Options, size: TowerSize) -> list[int]:
    return sorted(set(options.layers)) or list(range(1, size.depth + 1))
