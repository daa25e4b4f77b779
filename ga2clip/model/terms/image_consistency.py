"""Video features stay near the frozen ones: PromptSRC."""

import torch.nn.functional as F
from torch import Tensor

from ga2clip.model.term import Features, loss_term
from ga2clip.settings import Settings


@loss_term("image_consistency", needs=("frozen_video",), compares=("vision",))
def image_consistency(features: Features, _: Settings) -> Tensor:
    """|video feature − frozen video feature|, both normalised, mean over all B · D entries.

    PromptSRC (ICCV 2023), eq. 3; the published weight is 10.
    """
    assert features.frozen_video is not None
    return F.l1_loss(F.normalize(features.video, dim=-1), F.normalize(features.frozen_video, dim=-1))
