"""Residual distillation of both towers' features: FROSTER."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("froster", needs=("teacher", "frozen_video", "student"))
def froster(features: Features, _: Settings) -> Tensor:
    """(1 − mean cos(s(v), frozen v)) + (1 − mean cos(s(t), frozen t)) over videos v and classes t.

    s(z) = z + 0.1 · P(z) of the normalised feature z, with a trained network P per tower (part `froster`) that is left
    out in the scores: the tuned feature may differ from the frozen one as long as a small step leads back to it.
    FROSTER (ICLR 2024), residual feature distillation, with the cosine and the factors of its authors' code; there
    the frames of a video are compared one by one, here their mean is. The published weight is 2.
    """
    assert features.frozen_video is not None
    assert features.teacher is not None
    assert features.student_video is not None
    assert features.student_classes is not None
    video = F.cosine_similarity(features.student_video, features.frozen_video, dim=-1)
    classes = F.cosine_similarity(features.student_classes, features.teacher, dim=-1)
    return (1 - video.mean()) + (1 - classes.mean())
