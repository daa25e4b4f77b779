"""Class features stay near the frozen ones: PromptSRC."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("text_consistency", needs=("teacher",), over="classes", compares=("text",))
def text_consistency(features: Features, _: Settings) -> Tensor:
    """|class feature − frozen class feature|, both normalised, mean over all C · D entries.

    PromptSRC (ICCV 2023), eq. 3; the published weight is 25.
    """
    assert features.teacher is not None
    return F.l1_loss(F.normalize(features.classes, dim=-1), F.normalize(features.teacher, dim=-1))
