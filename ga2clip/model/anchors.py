"""Negative prompts go in, frozen text features (K, D) come out: the text half of generic attribute anchors.

The video half, irrelevant clips, comes with the batch (labels −1); the loss that joins them is `losses.anchor`.
"""

import logging

import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.labels import fill
from ga2clip.model.backbone import Backbone
from ga2clip.settings import AnchorSettings

_log = logging.getLogger(__name__)


@torch.no_grad()
def negative_features(backbone: Backbone, settings: AnchorSettings) -> Tensor:
    """Features (K, D) of the negative prompts from the text tower without prompts.

    Errors: UserError for an empty list of negatives.
    """
    if not settings.negatives:
        raise UserError(
            "anchors need at least one negative prompt", """--set 'anchors.negatives=["nothing"]'"""
        )
    texts = [fill(settings.negative_template, text) for text in settings.negatives]
    return frozen_text_features(backbone, texts)


@torch.no_grad()
def frozen_text_features(backbone: Backbone, texts: list[str]) -> Tensor:
    """Features (N, D) of texts from the text tower without prompts."""
    ids = torch.from_numpy(backbone.tokenizer.tokens(texts, context=backbone.context_length)[:, 1:])
    return backbone.text(ids.to(backbone.logit_scale.device))


def warn_if_inert(settings: AnchorSettings) -> None:
    """Say that the published anchor term has no gradient."""
    if settings.weight and settings.loss == "published":
        _log.warning(
            "anchor loss 'published' adds the same number to every logit of a video: a softmax ignores it, "
            "so it changes no gradient; 'margin' and 'contrast' do"
        )
