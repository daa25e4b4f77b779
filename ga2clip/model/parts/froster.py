"""The residual networks of FROSTER's distillation, which train beside the model and are no part of its answers."""

import torch.nn.functional as F
from torch import Tensor, nn

from ga2clip.model.part import Part, Site, Tower
from ga2clip.registry import PARTS

_SHARE = 0.1  # alpha of the authors' code


@PARTS.register("froster")
class Froster(Part):
    """z + 0.1 · W₂ GELU(W₁ z) of normalised features z (N, D), a network per tower; W₂ starts at zero.

    FROSTER (ICLR 2024), residual feature distillation, as its authors' code has it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text, self.vision = _network(width), _network(width)

    @classmethod
    def build(cls, site: Site) -> "Froster | None":
        """On with the loss term `froster`."""
        return cls(site.embed_dim) if site.settings.loss.weight("froster") else None

    def student_features(self, tower: Tower, features: Tensor) -> Tensor:
        """The features after a small step, at the start none."""
        features = F.normalize(features.float() if features.dtype.itemsize < 4 else features, dim=-1)
        network = self.text if tower == "text" else self.vision
        return features + _SHARE * network(features)

    def describe(self) -> str:
        """What it is for."""
        return "residual networks of the distillation (training only)"


def _network(width: int) -> nn.Sequential:
    network = nn.Sequential(
        nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
    )
    nn.init.kaiming_normal_(network[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[2].weight)  # type: ignore[arg-type]
    return network
