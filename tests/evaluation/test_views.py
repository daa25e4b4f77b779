"""Views of a video are averaged as probabilities, not as logits."""

from typing import Any

import numpy as np
import torch

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import ClipFeatures
from ga2clip.data.manifest import Clip
from ga2clip.data.protocols import EvalSet
from ga2clip.evaluation.measure import _rule, score_set
from ga2clip.settings import Settings


class TwoViews:
    """A model whose logits are its features: one view is sure of class 0, the others lean to class 1."""

    backbone = type("Backbone", (), {"vision": type("Vision", (), {"width": 1}), "scoring": "softmax"})
    views = torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 12.0, 12.5]])

    def encode_classes(self, names: list[str]) -> torch.Tensor:
        return torch.eye(len(names))

    def check_classes(self, names: object) -> None:
        """Any names are told apart."""

    def logits(self, video: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return video @ classes.T


def test_probabilities_are_averaged() -> None:
    model: Any = TwoViews()
    part = EvalSet("test", ("a", "b", "c"), (Clip("x.mp4", "a", "test", 8, 1.0),))
    encoded = ClipFeatures({"x.mp4": model.views}, {})
    found = score_set(_rule(model, Settings(), Group(torch.device("cpu")), None), part, encoded, 8, 1)
    e = np.exp(model.views.numpy())
    probabilities = (e / e.sum(axis=1, keepdims=True)).mean(axis=0)
    assert probabilities.argmax() == 0
    assert model.views.mean(dim=0).argmax() == 1  # what averaged logits would say
    assert found.scores.top1 == 1.0
