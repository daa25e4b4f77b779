"""Class probabilities (N, C) from video features (N, D): the arithmetic between the encoders and a ranking."""

from dataclasses import dataclass

import numpy as np

NONE_LABEL = "none of these"
"""The label that stands for "the anchor wins" when a question allows rejection."""


def normalise(features: np.ndarray) -> np.ndarray:
    """Rows (…, D) scaled to length 1, as float32; a row of zeros stays one."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=-1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)


@dataclass(frozen=True)
class Scorer:
    """The classes that a video is asked about.

    labels: C names (the last is `NONE_LABEL` when `threshold` is given). features: float32 (C, D), without a
    row for that one, and negatives: float32 (K, D), both L2-normalised. scale: what a cosine is multiplied
    by. threshold: best class cosine minus best negative cosine below which the answer is `NONE_LABEL`.
    """

    labels: tuple[str, ...]
    features: np.ndarray
    negatives: np.ndarray
    scale: float
    threshold: float | None = None

    def probabilities(self, video: np.ndarray) -> np.ndarray:
        """Video features (N, D), any length → softmax over the labels, float64 (N, C).

        With rejection, `NONE_LABEL` takes part with the best negative's cosine plus the threshold, so that
        it ranks first exactly where the margin is below the threshold.
        """
        unit = normalise(video)
        cosines = unit @ self.features.T
        if self.threshold is not None:
            none = (unit @ self.negatives.T).max(axis=1, keepdims=True) + self.threshold
            cosines = np.concatenate([cosines, none], axis=1)
        logits = self.scale * cosines.astype(np.float64)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)


def rejection_margin(video: np.ndarray, features: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Best class cosine minus best negative cosine of each video: (N, D), (C, D), (K, D) → float32 (N,)."""
    unit = normalise(video)
    return (unit @ features.T).max(axis=1) - (unit @ negatives.T).max(axis=1)
