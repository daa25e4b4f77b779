"""Settings of a method that contradict each other are refused before a model is built; doubtful ones are warned of."""

import logging
from collections.abc import Set

from ga2clip.errors import UserError
from ga2clip.model.part import TowerSize, refuse_if_closed
from ga2clip.model.term import FROZEN_VISION, active_terms, needs_of
from ga2clip.settings import Settings

_log = logging.getLogger(__name__)


def check_combination(settings: Settings, vision: TowerSize) -> None:
    """Check what a method is composed of. vision: the backbone's vision tower.

    Raises UserError for loss terms that need what the method does not have, and for attention to neighbouring frames
    in a tower that takes none.
    """
    _check_terms(settings)
    if settings.method.frame_attention == "neighbours":
        refuse_if_closed(
            vision,
            "attention to neighbouring frames",
            "set method.frame_attention=own; method.pooling=trend sees the order with every backbone",
        )
        if settings.data.frames == 2 and settings.method.pooling != "mean":
            _log.warning(
                "two frames that attend to each other see the same: read at the class token their features are equal, "
                "and no pooling finds an order; take three frames or more"
            )
    if settings.anchors.weight and settings.anchors.loss == "published":
        _log.warning(
            "anchor loss 'published' adds the same number to every logit of a video: a softmax ignores it, "
            "so it changes no gradient; 'margin' and 'contrast' do"
        )


def _check_terms(settings: Settings) -> None:
    """Raises UserError for terms that need what the method does not have."""
    needs = needs_of(settings)
    if settings.method.tune in ("vision", "both") and FROZEN_VISION & needs:
        raise UserError(
            f"a frozen vision tower is needed by {_that_need(FROZEN_VISION, settings)}",
            "set method.tune to prompts or text",
        )
    if "words" in needs and settings.method.linear_probe:
        raise UserError(
            f"a linear probe trains no text, which is needed by {_that_need({'words'}, settings)}",
            "take another method, or leave it out",
        )
    anchors = settings.anchors
    if "frozen_anchors" in needs and not anchors.per_step:
        raise UserError(
            f"anchor videos are needed by {_that_need({'frozen_anchors'}, settings)}",
            "set anchors.per_step above 0",
        )
    if anchors.weight and anchors.every > 1 and (anchors.loss == "published" or not anchors.per_step):
        what = "the published anchor loss" if anchors.per_step else "an anchor term without videos"
        raise UserError(
            f"anchors.every is {anchors.every}, but {what} belongs to every update", "--set anchors.every=1"
        )


def _that_need(fields: Set[str], settings: Settings) -> str:
    names = [term.name for term in active_terms(settings) if term.needs(settings) & fields]
    return f"the loss term{'s' if len(names) > 1 else ''} {', '.join(names)}"
