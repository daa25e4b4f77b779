"""Temporal pooling by learned queries over the frames."""

import torch
from torch import Tensor, nn

from ga2clip.model.part import Part, Site
from ga2clip.model.pooling import spread
from ga2clip.registry import PARTS

_QUERIES = 4


@PARTS.register("pooling_attention")
class AttentionPooling(Part):
    """mean(x) + W [Σ_t a_1t x̂_t, …, Σ_t a_Kt x̂_t] of frame features x (T, D); the matrix W (D, K·D) starts at zero.

    x̂ are the frames after a layer norm. The K queries q (K, D) attend to what a frame shows and to when it is shown:
    a_k = softmax_t(q_k · x̂_t + b_kt), with learned preferences b for moments of the video that are spread over its
    frames. So a query may look at the beginning and another one at the end, and W says what their difference means.
    Attention pooling as in CoCa (2022) and many others; without heads and key maps, which few clips don't need.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(_QUERIES, width) * width**-0.5)
        self.moments = nn.Parameter(torch.randn(frames, _QUERIES))
        self.output = nn.Linear(_QUERIES * width, width, bias=False)
        nn.init.zeros_(self.output.weight)

    @classmethod
    def build(cls, site: Site) -> "AttentionPooling | None":
        """On with `method.pooling` = `attention`."""
        settings = site.settings
        return cls(site.embed_dim, settings.data.frames) if settings.method.pooling == "attention" else None

    def video_features(self, video: Tensor, frames: Tensor) -> Tensor:
        """Add what the queries find."""
        x = self.norm(frames)
        scores = x @ self.queries.T + spread(self.moments, frames)
        found = scores.softmax(dim=1).transpose(1, 2) @ x
        return video + self.output(found.flatten(1))

    def describe(self) -> str:
        """How many queries."""
        return f"attention over the frames ({_QUERIES} queries)"
