"""The scenario term of ViLT-CLIP: class features stay near the features of the scenario template."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("scenario", needs=("scenario",), over="classes", compares=("text",))
def scenario(features: Features, _: Settings) -> Tensor:
    """1 − cos(class feature, frozen feature of the scenario template), mean over classes.

    ViLT-CLIP (AAAI 2024); the abstract gives no formula, this is our reading.
    """
    assert features.scenario is not None
    return (1 - F.cosine_similarity(features.classes, features.scenario, dim=-1)).mean()
