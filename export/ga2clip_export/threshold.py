"""Fits the open-set threshold: a clip with a smaller margin shows none of the classes.

The margin of a clip is its best class cosine minus its best cosine with a negative prompt. If the run has anchor clips
(which show no class), the threshold maximises the fraction of class clips above it plus the fraction of anchor clips
below it (Youden's J). Otherwise it is the margin that 95 % of the class clips reach.
"""

import numpy as np

from ga2clip.runtime.card import RejectCard
from ga2clip.runtime.fit_calibration import KEPT, best_cut
from ga2clip.runtime.scoring import rejection_margin
from ga2clip.text import counted
from ga2clip_export.verify import Reference


def fit_threshold(expected: Reference, anchors: np.ndarray | None) -> RejectCard:
    """The open-set threshold of a model.

    expected: torch's features of clips that show the model's classes. anchors: features (A, D) of anchor clips, or
    None.
    """
    shown = rejection_margin(expected.video_features, expected.bank, expected.negatives)
    source = f"{counted(len(shown), 'training clip')} of the run"
    if anchors is None:
        threshold = float(np.quantile(shown, 1 - KEPT))
        return RejectCard(
            threshold=threshold, fitted_on=source, kept=_share(shown >= threshold), rejected=None
        )
    other = rejection_margin(anchors, expected.bank, expected.negatives)
    threshold = best_cut(shown, other)
    return RejectCard(
        threshold=threshold,
        fitted_on=f"{source} and {counted(len(other), 'anchor clip')}",
        kept=_share(shown >= threshold),
        rejected=_share(other < threshold),
    )


def _share(mask: np.ndarray) -> float:
    return float(mask.mean())
