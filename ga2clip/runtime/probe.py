"""Logistic regression on video features whose rows start at the class texts, in NumPy.

The rows W of C classes minimise, over N examples (x, y) and with the model's softmax scale s,

    Σ -log softmax(s·W·x)_y  +  λ·s/2 · Σ |W_c - text_c|²        λ = 1 + 2·C/N

so that they leave the texts only where examples call for it, the less the fewer there are. The loss is convex. It is
minimised by L-BFGS (Nocedal & Wright, Numerical Optimization, 2006, algorithm 7.4) that begins with the curvature which
all classes have in common, and ends where a step promises to lower it by less than 0.01, after 40 steps at the latest:
the rows lie near the exact minimum, not in it. The same examples give the same rows. SciPy's, which the tests compare
it with, would do as well, but teaching works with the base install alone, and these few lines spare it 140 MB.

Source: a linear probe that starts at the text features and is held near them, as CLAP is (Silva-Rodríguez et al., "A
Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR 2024), there with a weight per class.
"""

from collections.abc import Callable

import numpy as np

_STEPS = 40  # five times as many move accuracies by 0.2 points at most
_REMEMBERED = 10
_ENOUGH = 0.01
"""Where a step promises to lower the loss by less than this, the search ends."""


def moved_rows(features: np.ndarray, labels: np.ndarray, texts: np.ndarray, scale: float) -> np.ndarray:
    """How far the rows of logistic regression lie from the texts, float64 (C, D).

    features: unit video features (N, D) of the examples. labels: (N,) their classes, of which each has an example.
    texts: unit text features (C, D). scale: the model's factor before the softmax.
    """
    x, start = features.astype(np.float64), texts.astype(np.float64)
    rows, count = np.arange(len(x)), len(start)
    weight = 1 + 2 * count / len(x)

    def loss(moved: np.ndarray) -> tuple[float, np.ndarray]:
        logits = scale * (x @ (start + moved).T)
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(axis=1)
        lost = np.log(total).sum() - logits[rows, labels].sum()
        likely /= total[:, None]
        likely[rows, labels] -= 1
        return (
            float(lost + weight * scale / 2 * (moved * moved).sum()),
            scale * (likely.T @ x + weight * moved),
        )

    curvature = scale * (scale / count * x.T @ x + weight * np.eye(x.shape[1]))
    return _lowest(loss, np.zeros_like(start), np.linalg.inv(curvature))


def _lowest(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]],
    place: np.ndarray,
    inverse: np.ndarray,
) -> np.ndarray:
    """Where a convex loss is lowest. loss: its value and gradient (C, D) at a place (C, D). inverse: (D, D), roughly
    that of its curvature.
    """
    value, gradient = loss(place)
    # Steps, changes of the gradient, and their products.
    known: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(_STEPS):
        ahead, parts = gradient, []
        for step, change, product in reversed(known):
            parts.append(float((step * ahead).sum()) / product)
            ahead = ahead - parts[-1] * change
        ahead = ahead @ inverse
        for (step, change, product), part in zip(known, reversed(parts), strict=True):
            ahead = ahead + (part - float((change * ahead).sum()) / product) * step
        slope = float((gradient * ahead).sum())
        if slope < _ENOUGH:
            break
        length = 1.0
        new, found = loss(place - ahead)
        while new > value - 1e-4 * length * slope and length > 1e-6:
            length /= 2
            new, found = loss(place - length * ahead)
        step, change = -length * ahead, found - gradient
        product = float((step * change).sum())
        if product > 0:
            known = [*known, (step, change, product)][-_REMEMBERED:]
        place, value, gradient = place + step, new, found
    return place
