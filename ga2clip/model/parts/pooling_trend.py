"""Temporal pooling by the trend of the frames."""

import torch
from torch import Tensor, nn

from ga2clip.model.part import Part, Site
from ga2clip.registry import PARTS


@PARTS.register("pooling_trend")
class TrendPooling(Part):
    """mean(x) + W slope(x̂) of frame features x (T, D), with a matrix W (D, D) that starts at zero.

    x̂ are the frames, each normalised to mean 0 and variance 1, and the slope is that of their least-squares line over
    the time from 0 to 1: Σ_t (τ_t − ½) x̂_t / Σ_t (τ_t − ½)² with τ_t = (t + ½) / T. The reversed video has the opposite
    slope, so what is added says which way the video goes and nothing else; one frame has none. Weights of the frames
    that rise with time: approximate rank pooling (Dynamic image networks, CVPR 2016), on features, with a learned map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.output = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.output.weight)

    @classmethod
    def build(cls, site: Site) -> "TrendPooling | None":
        """On with `method.pooling` = `trend`."""
        return cls(site.embed_dim) if site.settings.method.pooling == "trend" else None

    def video_features(self, video: Tensor, frames: Tensor) -> Tensor:
        """Add what the trend means."""
        count = frames.shape[1]
        time = (torch.arange(count, device=frames.device) + 0.5) / count - 0.5
        weights = time / time.square().sum(dim=0, keepdim=True).clamp(
            min=1e-6
        )  # 0 / 0 for one frame: no slope
        return video + self.output((self.norm(frames) * weights[:, None]).sum(dim=1))

    def describe(self) -> str:
        """What it is."""
        return "trend of the frames"
