"""Text features of words outside the classes stay near the frozen ones."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("outlier_text", needs=("words",), over="classes", compares=("text",))
def outlier_text(features: Features, _: Settings) -> Tensor:
    """1 − cos(text feature, frozen text feature) of words outside the classes, mean over words.

    KgCoOp's term (CVPR 2023) on texts of which there are no videos, the idea of LASP's virtual classes (CVPR 2023):
    few classes leave much of the text space free to move, and new classes are named there. The combination is ours.
    """
    assert features.words is not None
    assert features.frozen_words is not None
    return (1 - F.cosine_similarity(features.words, features.frozen_words, dim=-1)).mean()
