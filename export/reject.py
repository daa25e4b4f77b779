"""Margins of clips that do show a class go in, the threshold of "none of these" comes out.

A clip's margin is its best class cosine minus its best cosine with a negative prompt. The threshold is the
margin that all but a twentieth of the run's own training clips reach.
"""

import numpy as np

from ga2clip_export.runtime.card import RejectCard
from ga2clip_export.runtime.scoring import rejection_margin
from ga2clip_export.verify import Reference

_KEPT = 0.95


def fit_threshold(expected: Reference, source: str) -> RejectCard:
    """The threshold for a model, from torch's features of clips that show its classes."""
    margins = rejection_margin(expected.video_features, expected.bank, expected.negatives)
    threshold = float(np.quantile(margins, 1 - _KEPT))
    kept = float((margins >= threshold).mean())
    return RejectCard(threshold=threshold, fitted_on=f"{len(margins)} {source}", kept=kept)
