"""The class distribution of a video stays near the frozen model's: PromptSRC."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.scoring import cosine
from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("logit_consistency", needs=("teacher", "frozen_video"))
def logit_consistency(features: Features, _: Settings) -> Tensor:
    """KL(frozen ‖ tuned) of the class distributions, summed over videos and classes, over B · C.

    PromptSRC (ICCV 2023), eq. 4, with the direction and the divisor (the number of logits) of its authors' code;
    the published weight is 1.
    """
    assert features.frozen_video is not None
    assert features.teacher is not None
    frozen = features.scale * cosine(features.frozen_video, features.teacher)
    tuned = features.logits.log_softmax(dim=-1)
    divergence = F.kl_div(tuned, frozen.log_softmax(dim=-1), reduction="sum", log_target=True)
    return divergence / tuned.numel()
