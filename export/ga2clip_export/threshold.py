"""The open-set threshold: below which margin a clip shows none of the classes.

A clip's margin is its best class cosine minus its best cosine with a negative prompt. Where the run knows
clips that show no class (its anchors), the threshold is where the share of class clips above it plus the
share of anchors below it is largest (Youden's J). Without any, it is the margin that all but a twentieth of
the class clips reach.
"""

import numpy as np

from ga2clip.runtime.card import RejectCard
from ga2clip.runtime.scoring import rejection_margin
from ga2clip_export.verify import Reference

_KEPT = 0.95


def fit_threshold(expected: Reference, anchors: np.ndarray | None) -> RejectCard:
    """The threshold for a model.

    expected: features of clips that show its classes. anchors: features (A, D) of clips that show none, or
    None.
    """
    shown = rejection_margin(expected.video_features, expected.bank, expected.negatives)
    source = f"{len(shown)} training clips of the run"
    if anchors is None:
        threshold = float(np.quantile(shown, 1 - _KEPT))
        return RejectCard(
            threshold=threshold, fitted_on=source, kept=_share(shown >= threshold), rejected=None
        )
    other = rejection_margin(anchors, expected.bank, expected.negatives)
    threshold = _best_cut(shown, other)
    return RejectCard(
        threshold=threshold,
        fitted_on=f"{source} and {len(other)} anchor clips",
        kept=_share(shown >= threshold),
        rejected=_share(other < threshold),
    )


def _best_cut(above: np.ndarray, below: np.ndarray) -> float:
    """The middle between two neighbouring values where P(above ≥ cut) + P(below < cut) is largest."""
    values = np.unique(np.concatenate([above, below]))
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2])
    gains = [(above >= cut).mean() + (below < cut).mean() for cut in cuts]
    return float(cuts[int(np.argmax(gains))])


def _share(mask: np.ndarray) -> float:
    return float(mask.mean())
