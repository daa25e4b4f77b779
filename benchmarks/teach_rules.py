"""The rules that `benchmarks/teach.py` compares: each learns classes from a few clips and scores others."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.probe import moved_rows
from ga2clip.runtime.scoring import NONE_LABEL, normalise
from ga2clip.runtime.taught_calibration import chosen
from ga2clip.runtime.teaching import TEXT_CLIPS, Example, Examples, Head

Scores = Callable[[np.ndarray], np.ndarray]
"""Unit video features (N, D) → scores (N, C)."""


@dataclass(frozen=True)
class Data:
    """video: unit features (N, D). labels: class numbers, -1 for clips of no class. texts: (C, D)."""

    video: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    names: tuple[str, ...]
    texts: np.ndarray
    negatives: np.ndarray
    scale: float


def zero_shot(data: Data, _: np.ndarray) -> Scores:
    """Cosines with the texts."""
    return lambda x: x @ data.texts.T


def prototypes(data: Data, drawn: np.ndarray) -> Scores:
    """Text and mean of the examples, both centred and of length 1, added."""
    x, y = data.video[drawn], data.labels[drawn]
    centre, rows = x.mean(0), normalise(data.texts - data.texts.mean(0))
    for label in np.unique(y):
        rows[label] += normalise(x[y == label].mean(0) - centre)
    rows = normalise(rows)
    return lambda v: normalise(v - centre) @ rows.T


def tip_adapter(data: Data, drawn: np.ndarray) -> Scores:
    """Tip-Adapter without training (ECCV 2022): alpha 1, beta 5.5."""
    x, one_hot = data.video[drawn], np.eye(len(data.names))[data.labels[drawn]]
    return lambda v: data.scale * (v @ data.texts.T) + np.exp(-5.5 * (1 - v @ x.T)) @ one_hot


def gda(data: Data, drawn: np.ndarray) -> Scores:
    """Discriminant analysis of the examples alone, its covariance shrunk as GDA-CLIP does (ICLR 2024), plus zero-shot.
    With one clip a class there is no covariance: the identity.
    """
    x, y = data.video[drawn].astype(np.float64), data.labels[drawn]
    means = np.stack([x[y == c].mean(0) if (y == c).any() else x.mean(0) for c in range(len(data.names))])
    around, width = x - means[y], x.shape[1]
    count = max(len(x) - 1, 1)
    covariance = around.T @ around / count
    if np.trace(covariance) < 1e-9:
        covariance = np.eye(width)
    precision = width * np.linalg.inv(count * covariance + np.trace(covariance) * np.eye(width))
    rows = means @ precision
    offsets = -0.5 * (rows * means).sum(1)
    return lambda v: data.scale * (v @ data.texts.T) + v @ rows.T + offsets


def linear_probe(data: Data, drawn: np.ndarray) -> Scores:
    """Logistic regression whose rows start at the texts and are held near them (a Gaussian prior)."""
    x, y = data.video[drawn].astype(np.float64), data.labels[drawn]
    start, truth = data.texts.astype(np.float64), np.eye(len(data.names))[y]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = flat.reshape(start.shape)
        likely = softmax(data.scale * x @ rows.T)
        apart = rows - start
        gradient = data.scale * (likely - truth).T @ x + PROBE_PRIOR * data.scale * apart
        lost = -np.log(np.maximum((likely * truth).sum(1), 1e-300)).sum()
        return float(lost + PROBE_PRIOR * data.scale / 2 * (apart**2).sum()), gradient.ravel()

    rows = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B").x.reshape(start.shape)
    return lambda v: v @ rows.T


PROBE_PRIOR = 0.3
"""Of 0.1 to 10 the best on training clips of `stickfigures` that were not drawn."""


def head(data: Data, drawn: np.ndarray, none: np.ndarray | None = None) -> Head:
    """The rule of `ga2clip teach`, with examples of classes and of "none of these" (numbers of clips)."""
    items = [Example(data.names[data.labels[i]], "class", f"{i:064x}") for i in drawn]
    items += [] if none is None else [Example(NONE_LABEL, "none", f"{i:064x}") for i in none]
    rows = drawn if none is None else np.concatenate([drawn, none])
    examples = Examples.sorted(items, data.video[rows])
    return Head(data.names, data.texts, examples, len(data.names), data.scale, None)


def gaussian(data: Data, drawn: np.ndarray) -> Scores:
    """Discriminant analysis with texts as the prior, the first of the rule's two parts, without the second."""
    return head(data, drawn).rows(data.names, data.texts).scores


def asked(own: Head, data: Data) -> Scores:
    """Scores of all classes."""
    return own.question(data.names, data.texts, data.negatives).of_classes


def alone(data: Data, drawn: np.ndarray) -> Scores:
    """All of the rule, whatever held-out examples say of the others."""
    return asked(replace(chosen(head(data, drawn)), share=1.0), data)


def teach(data: Data, drawn: np.ndarray) -> Scores:
    """The rule of `ga2clip teach`."""
    return asked(chosen(head(data, drawn)), data)


def probe_alone(data: Data, drawn: np.ndarray) -> Scores:
    """The second part of the rule of `ga2clip teach` without the first."""
    moved = moved_rows(data.video[drawn], data.labels[drawn], data.texts, data.scale)
    return lambda v: v @ (data.texts + moved).T


def with_prior(share: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Data, np.ndarray], Scores]:
    """The rule with another choice of the covariance's share: of the residuals (N, D) and their classes."""

    def rule(data: Data, drawn: np.ndarray) -> Scores:
        return prior_scores(data, drawn, share)

    return rule


def prior_scores(data: Data, drawn: np.ndarray, share: Callable[[np.ndarray, np.ndarray], float]) -> Scores:
    """Scores of the rule with the text prior, its centre and length from `Head`, and a given covariance."""
    fit, texts = head(data, drawn)._fit, data.texts.astype(np.float64)
    x, y = data.video[drawn].astype(np.float64), data.labels[drawn]
    means = texts - fit.mean_text
    for c in np.unique(y):
        own = (x[y == c] - fit.centre) / fit.length
        means[c] = (TEXT_CLIPS * means[c] + own.sum(0)) / (TEXT_CLIPS + len(own))
    around, width = x - fit.centre - fit.length * means[y], x.shape[1]
    spread = (around * around).sum() / len(around)
    part = share(around, y)
    mixed = (1 - part) * np.eye(width) + part * around.T @ around / len(around) * width / spread
    rows = np.linalg.solve(mixed, means.T).T
    counts = np.bincount(y, minlength=len(means))
    offsets = -rows @ fit.centre - fit.length / 2 * (rows * means).sum(1)
    offsets -= spread / (2 * fit.length * TEXT_CLIPS) * np.sqrt(counts / (counts + TEXT_CLIPS))
    return lambda v: v @ rows.T + offsets


def oas(around: np.ndarray, _: np.ndarray) -> float:
    """Oracle approximating shrinkage (Chen et al., IEEE TSP 2010)."""
    count, width = around.shape
    s = around.T @ around / count
    square, trace = (s * s).sum(), np.trace(s) ** 2
    return float(
        1
        - min(1.0, ((1 - 2 / width) * square + trace) / ((count + 1 - 2 / width) * (square - trace / width)))
    )


RULES: dict[str, Callable[[Data, np.ndarray], Scores]] = {
    "zero-shot": zero_shot,
    "text + class means": prototypes,
    "Tip-Adapter": tip_adapter,
    "linear probe from the texts": linear_probe,
    "GDA + zero-shot": gda,
    "text prior, identity": with_prior(lambda *_: 0.0),
    "text prior, OAS": with_prior(oas),
    "text prior (first part of teach)": gaussian,
    "probe (second part of teach)": probe_alone,
    "**teach**": teach,
}
