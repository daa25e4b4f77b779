"""A linear classifier on frozen video features, started from the class texts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.model.part import Part, Site
from ga2clip.registry import PARTS
from ga2clip.text import counted


@PARTS.register("linear_probe")
class LinearProbe(Part):
    """One trained row (D) per class that is tuned on: CLIP (ICML 2021), sec. 3.2; text start: WiSE-FT (CVPR 2022)."""

    trains = frozenset({"text"})

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.weight = nn.Parameter(site.frozen_classes().clone())
        self._row = {name: index for index, name in enumerate(site.classes)}

    @classmethod
    def build(cls, site: Site) -> "LinearProbe | None":
        """The part if `method.linear_probe` is on. Raises UserError if there are prompts, too."""
        method = site.settings.method
        if method.linear_probe and (method.text_length or method.vision_length):
            raise UserError(
                "a linear probe takes no prompts", "set method.text_length=0 and method.vision_length=0"
            )
        return cls(site) if method.linear_probe else None

    def class_features(self, names: Sequence[str], encode: Callable[[Sequence[str]], Tensor]) -> Tensor:
        """The trained rows for the classes of the tuning, text features for others."""
        others = [name for name in names if name not in self._row]
        encoded = dict(zip(others, encode(others), strict=True)) if others else {}
        return torch.stack([self.weight[self._row[n]] if n in self._row else encoded[n] for n in names])

    def describe(self) -> str:
        """How many classes."""
        return f"classifier ({counted(len(self._row), 'class')})"
