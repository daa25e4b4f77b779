"""Class features stay near the frozen ones: KgCoOp."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("kgcoop", needs=("teacher",), over="classes", compares=("text",))
def kgcoop(features: Features, _: Settings) -> Tensor:
    """1 − cos(class feature, frozen class feature), mean over classes.

    KgCoOp (CVPR 2023), as its authors' code computes it (`score`), which is half the mean squared distance of the
    normalised features that eq. 3 of the paper has; the published weight is 8.
    """
    assert features.teacher is not None
    return (1 - F.cosine_similarity(features.classes, features.teacher, dim=-1)).mean()
