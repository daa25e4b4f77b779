"""Temporal pooling by a small transformer over the frames: Text4Vis' and GA2-CLIP's header `Transf`."""

import math
from functools import partial

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from ga2clip.model.part import Part, Site
from ga2clip.model.pooling import spread
from ga2clip.model.towers import run_block
from ga2clip.registry import PARTS

_STD = 0.02  # of the weights, as published
_POSITIONS_STD = 1.0
"""Published: 0.02, far below the features, which the few updates of a few-shot tuning don't overcome
(docs/benchmarks.md)."""


@PARTS.register("pooling_transformer")
class TransformerPooling(Part):
    """mean(x) + g ⊙ mean(Transformer(x + p)) of frame features x (T, D), with a gate g (D,) that starts at zero.

    With g = 1 it is the header `Transf` of Text4Vis (AAAI 2023) and of GA2-CLIP's code, which adds the transformer's
    output to its input before the mean: blocks of CLIP's text tower (QuickGELU) with a head per 64 channels, and a
    learned position p (D,) per frame. There the positions are those of frame numbers; here they are spread over the
    video, which is the same for as many frames as the run has.
    """

    def __init__(self, width: int, heads: int, layers: int, frames: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(frames, width) * _POSITIONS_STD)
        norm = partial(nn.LayerNorm, eps=1e-12)
        self.blocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, act_layer=QuickGELU, norm_layer=norm) for _ in range(layers)
        )
        self.gate = nn.Parameter(torch.zeros(width))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)

    @classmethod
    def build(cls, site: Site) -> "TransformerPooling | None":
        """On with `method.pooling` = `transformer`."""
        method = site.settings.method
        if method.pooling != "transformer":
            return None
        # Heads of 64 in the text tower's width, as published; the features may be narrower.
        heads = math.gcd(site.embed_dim, max(1, site.text.width // 64))
        return cls(site.embed_dim, heads, method.pooling_layers, site.settings.data.frames)

    def video_features(self, video: Tensor, frames: Tensor) -> Tensor:
        """Add what the transformer makes of the frames, times the gate."""
        x = frames + spread(self.positions, frames)
        for block in self.blocks:
            x = run_block(block, x)
        return video + self.gate * x.mean(dim=1)

    def describe(self) -> str:
        """How many blocks."""
        return f"transformer over the frames ({len(self.blocks)} blocks)"
