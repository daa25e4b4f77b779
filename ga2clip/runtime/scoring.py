"""Class probabilities (N, C) from video features (N, D): the arithmetic between the encoders and a ranking.

Two rules, as the backbone was trained. `softmax` (CLIP): the classes share a probability of 1. `sigmoid` (SigLIP, ICCV
2023): each class has a probability of its own, sigmoid(scale · cosine + bias), whatever the other classes are; they
need not sum to 1, and several classes, or none, may be probable. Ranking, rejection and timelines work alike with both:
the most probable class is the one with the largest cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ga2clip.choices import ScoringRule
from ga2clip.runtime.calibration import Calibration, Choice, Coverage, MultiLabel, in_order, softmax
from ga2clip.runtime.teaching import Taught

NONE_LABEL = "none of these"
"""The label of the answer "none of the classes", which is only possible with `reject`."""


def normalise(features: np.ndarray) -> np.ndarray:
    """Rows (…, D) divided by their L2 norm, float32; rows of zeros stay zero."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=-1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)


def mean_over_frames(features: np.ndarray) -> np.ndarray:
    """Frame features (B, T, D) → their means float32 (B, D)."""
    return features.mean(axis=1, dtype=np.float64).astype(np.float32)


def mean_direction(features: np.ndarray) -> np.ndarray:
    """The feature (D,) of a class from the L2-normalised ones of its texts (N, D): their normalised mean, float32."""
    return features[0] if len(features) == 1 else normalise(features.mean(axis=0, dtype=np.float64))


@dataclass(frozen=True)
class Scorer:
    """The classes of a question, with their features, and the rule that scores a video against them.

    Attributes:
        labels: C names; the last is `NONE_LABEL` when `threshold` is given.
        features: float32 (C, D), L2-normalised; no row for `NONE_LABEL`.
        negatives: float32 (K, D), L2-normalised, features of the negative prompts.
        scale: factor on the cosines before the softmax or sigmoid.
        threshold: the open-set threshold; below it (best class cosine minus best negative cosine) the answer is
            `NONE_LABEL`. None: no rejection.
        rule: `softmax` or `sigmoid`.
        bias: added to scale times cosine by `sigmoid`; a softmax would ignore it.
        taught: scores that examples taught, in place of the cosines.
        calibration: what makes probabilities of the scores; None: the model's own softmax.
        choice: which labels to choose beside the ranking; needs a calibration.
    """

    labels: tuple[str, ...]
    features: np.ndarray
    negatives: np.ndarray
    scale: float
    threshold: float | None = None
    rule: ScoringRule = "softmax"
    bias: float = 0.0
    taught: Taught | None = None
    calibration: Calibration | None = None
    choice: Choice | None = None

    def probabilities(self, video: np.ndarray) -> np.ndarray:
        """Probabilities of the labels, float64 (N, C), for video features (N, D) that need not be normalised.

        With rejection, `NONE_LABEL` takes part with the best negative's cosine plus the threshold, so that it ranks
        first exactly where the margin is below the threshold. With a calibration, the logits of a video are divided
        by the temperature of its best class, and the negative prompts take part, unless they do as `NONE_LABEL`
        already; that leaves the ranking as it is. With `MultiLabel`, each class has a probability of its own.
        """
        return self._probabilities(video, negatives=self.threshold is None)

    def _probabilities(self, video: np.ndarray, *, negatives: bool) -> np.ndarray:
        unit = normalise(video)
        scores = self.scores(unit)
        logits = self.scale * scores
        if self.calibration is not None and isinstance(self.choice, MultiLabel):
            return self.calibration.independent(logits)
        if self.rule == "sigmoid":
            return _sigmoid(logits + self.bias)
        if self.calibration is None:
            return softmax(logits)
        against = self._against(unit) if negatives else np.empty((len(unit), 0))
        return self.calibration.probabilities(logits, self.scale * against.astype(np.float64))

    def scores(self, unit: np.ndarray) -> np.ndarray:
        """Scores of the labels, float64 (N, C), of unit video features (N, D): cosines, or what examples made of them.

        That of `NONE_LABEL` is the best negative's plus the threshold.
        """
        scores = self.taught.scores(unit, self.scale) if self.taught else unit @ self.features.T
        if self.threshold is not None:
            none = self._against(unit).max(axis=1, keepdims=True) + self.threshold
            scores = np.concatenate([scores, none], axis=1)
        return scores.astype(np.float64)

    def rows(self, unit: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """For one video (D,): what its feature is multiplied with in the scores of K labels, float32 (K, D).

        A score is the product and a constant: what taught classes have beside (`Taught.rows`), what examples against a
        class take off, the threshold of `NONE_LABEL`, whose row is that of the video's best negative.
        """
        rows = self.taught.rows(unit) if self.taught else self.features
        if self.threshold is not None:
            negatives = self.taught.negatives.rows if self.taught else self.negatives
            rows = np.concatenate([rows, negatives[self._against(unit[None]).argmax(axis=1)]])
        return rows[list(places)]

    def _against(self, unit: np.ndarray) -> np.ndarray:
        return self.taught.negatives.scores(unit) if self.taught else unit @ self.negatives.T

    def chosen(self, video: np.ndarray) -> np.ndarray | None:
        """Which labels of video features (N, D) are chosen, bool (N, C); None where no choice was asked for.

        `MultiLabel`: those that reach their threshold, which may be none. `Coverage`: those of the set, with the best
        one always; it is made of probabilities in which negative prompts take no part, as those make sets of new names
        smaller than what holds the truth as often as it should (docs/benchmarks.md, "Probabilities").
        """
        if self.calibration is None or self.choice is None:
            return None
        if isinstance(self.choice, Coverage):
            return self.calibration.sets(self._probabilities(video, negatives=False), self.choice.share)
        return self.probabilities(video) >= self.calibration.thresholds(self.labels, self.choice.thresholds)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Sigmoids of logits (N, C), float64, in the order of the logits, also of those above 37, which round to 1."""
    tails = np.exp(-np.abs(logits))
    return in_order(np.where(logits >= 0, 1.0, tails) / (1.0 + tails), logits)


def rejection_margin(video: np.ndarray, features: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Best class cosine minus best negative cosine of each video, float32 (N,).

    video: (N, D), any length. features (C, D) and negatives (K, D): L2-normalised.
    """
    unit = normalise(video)
    return (unit @ features.T).max(axis=1) - (unit @ negatives.T).max(axis=1)
