"""A toy package: one part, one loss term and one dataset, each a file, with entry points."""

from pathlib import Path

PART = '''
import torch
from pydantic import BaseModel
from torch import nn

from ga2clip.model.part import Part
from ga2clip.registry import PARTS


class Options(BaseModel, extra="forbid"):
    start: float = 1.0


@PARTS.register("feature_scale")
class FeatureScale(Part):
    """A learned factor per channel of the frame features."""

    trains = frozenset({"vision"})
    options = Options

    def __init__(self, width, start):
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), start))

    @classmethod
    def build(cls, site):
        return cls(site.embed_dim, site.options.start) if site.options else None

    def frame_features(self, features):
        return features * self.scale

    def describe(self):
        return "feature scale"
'''

TERM = '''
from ga2clip.model.term import loss_term


@loss_term("norm")
def norm(features, settings):
    """Mean squared norm of the video features."""
    return features.video.square().sum(dim=-1).mean()
'''

DATASET = """
import numpy as np

from ga2clip.data.declaration import Dataset
from ga2clip.data.listing import own_splits
from ga2clip.registry import DATASETS
from ga2clip.video import find_videos


def read(source):
    rows = [(f"{path.parent.name}/{path.name}", path.parent.name, "") for path in find_videos(source.root)]
    return own_splits(rows, source.seed, source.dataset.readable)


DATASETS.register("toy")(Dataset(name="toy", get_it="Make it.", read=read, recipe="stickfigures", flip=False))
"""


def write_toy_package(site: Path) -> Path:
    """Lay the package into `site` as an installer would; returns `site`."""
    package = site / "toy_actions"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text(PART)
    (package / "term.py").write_text(TERM)
    (package / "dataset.py").write_text(DATASET)
    info = site / "toy_actions-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-actions\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ga2clip.parts]\nfeature_scale = toy_actions.part\n"
        "[ga2clip.terms]\nnorm = toy_actions.term\n"
        "[ga2clip.datasets]\ntoy = toy_actions.dataset\n"
    )
    return site
