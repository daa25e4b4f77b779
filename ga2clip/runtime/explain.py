"""Which frames carried an answer.

The score of a class is a cosine with its text, or what examples made of it; for a video feature v it is row · v/|v| and
a constant. Two things are said of every frame:

contribution   Where v is the mean of T frame features f, the score is the sum of row · f/(T·|v|) over the frames, so
               that each frame has its term: exact. Temporal pooling has no such terms; there a contribution is the
               frame's Shapley value, an approximation. Both add up to the score but for its constant, `rest`.
weight         The share of the frame in all positive Shapley values. A frame that shows something else, and turns v
               away from the class, has a contribution in the exact sum too, but hardly a weight.

A Shapley value is what the frame adds to the score on average when the frames come one after another in random order.
It is exact for up to four frames, and the mean over a few fixed orders for more; more than 64 frames are taken in 64
stretches of equal length.

Source: Shapley, "A value for n-person games" (1953), sampled as by Castro, Gómez & Tejada (Computers & Operations
Research, 2009), each order with its reverse (Mitchell et al., JMLR 2022). `benchmarks/explain.py` measures both.
"""

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np

from ga2clip.predictions import ClassExplanation, Explanation
from ga2clip.runtime.scoring import Scorer, mean_over_frames, normalise

_ORDERS = 64
_PLAYERS = 64

Pool = Callable[[np.ndarray], np.ndarray]
"""Frame features (B, T, D) → video features (B, D)."""


def explain(
    scorer: Scorer, features: np.ndarray, pool: Pool, labels: Sequence[str], times: Sequence[float]
) -> Explanation:
    """What the frames of a video have to do with the scores of some labels.

    Args:
        scorer: the question.
        features: float32 (T, D), features of the frames in the order of time.
        pool: as `ClipModel.pool`.
        labels: K of the scorer's labels.
        times: T, the seconds at which the frames are shown.
    """
    video = pool(features[None])[0].astype(np.float64)
    mean = mean_over_frames(features[None])[0].astype(np.float64)
    length = max(float(np.linalg.norm(video)), 1e-12)
    exact = bool(np.abs(video - mean).max() <= 1e-5 * length)
    places = [scorer.labels.index(label) for label in labels]
    unit = normalise(video[None])
    rows = scorer.rows(unit[0], places).astype(np.float64)
    scores = scorer.scores(unit)[0, places]
    values = shapley_values(features, rows, mean_over_frames if exact else pool)
    parts = features.astype(np.float64) @ rows.T / (len(features) * length) if exact else values
    positive = np.maximum(values, 0)
    weights = positive / np.maximum(positive.sum(axis=0), 1e-12)
    return Explanation(
        rule="exact" if exact else "approximation",
        times=tuple(map(float, times)),
        classes=tuple(
            ClassExplanation(
                label,
                float(score),
                float(score - parts[:, place].sum()),
                tuple(parts[:, place].tolist()),
                tuple(weights[:, place].tolist()),
            )
            for place, (label, score) in enumerate(zip(labels, scores, strict=True))
        ),
    )


def shapley_values(features: np.ndarray, rows: np.ndarray, pool: Pool) -> np.ndarray:
    """Shapley values float64 (T, K) of frames in `rows · pool(frames)/|pool(frames)|`, which is 0 without a frame.

    features: (T, D) in the order of time, in which `pool` sees them, whatever the order in which they come. rows:
    (K, D).
    """
    stretches = np.array_split(np.arange(len(features)), min(len(features), _PLAYERS))
    orders = _orders(len(stretches))
    before = np.zeros((len(orders), len(rows)))
    added = np.zeros((len(orders), len(stretches), len(rows)))
    for count in range(1, len(stretches) + 1):
        there = [np.concatenate([stretches[s] for s in sorted(order[:count])]) for order in orders]
        pooled = _pooled(pool, [features[frames] for frames in there])
        unit = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        after = unit.astype(np.float64) @ rows.T
        added[np.arange(len(orders)), orders[:, count - 1]] = after - before
        before = after
    mean = added.mean(axis=0)
    return np.concatenate([np.tile(mean[s] / len(own), (len(own), 1)) for s, own in enumerate(stretches)])


def _pooled(pool: Pool, sets: Sequence[np.ndarray]) -> np.ndarray:
    """Video features (R, D) of R sets of frame features, in one call where they are equally many."""
    if len(set(map(len, sets))) == 1:
        return pool(np.stack(sets))
    return np.concatenate([pool(own[None]) for own in sets])


def _orders(count: int) -> np.ndarray:
    """Orders in which `count` players come, int (R, count): all where they are few, else some in which each player has
    each place equally often: fixed random orders, rotated in all ways, and their reverses.
    """
    if math.factorial(count) <= _ORDERS:
        return np.array(list(permutations(range(count))))
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(count) for _ in range(max(1, _ORDERS // (2 * count)))]
    turned = np.stack([np.roll(order, shift) for order in drawn for shift in range(count)])
    return np.concatenate([turned, turned[:, ::-1]])
