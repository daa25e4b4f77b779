"""Learning from examples: Gaussian classes with a common covariance, whose means start at the texts, and logistic
regression that starts there too.

A unit video feature x of class c is taken as drawn from a normal distribution with mean μ + a·u_c and covariance Σ:

    u_c   t_c, the text feature less the mean text feature, as if it had been seen in κ = 4 clips, averaged with the
          examples (x - μ)/a of the class (maximum a posteriori); without examples t_c itself
    μ, a  where the centre of all classes lies and how long texts are in videos: weighted least squares over the taught
          classes, with the zero-shot centre (a times the mean text) counting as one more class
    Σ     τ(λI + (1-λ)S/τ), S: covariance of the examples around their means, τ = tr S/D;
          1-λ = N/(N+D) times the share of the classes that have examples, as the others say nothing about S

What varies within the classes of the examples may be what other names differ by: a head that was taught things sees
all that is done with them as noise. So Σ is τI in the directions in which those names of a question that have no
examples differ from the mean text. And since their videos need not lie where those of the examples do, such a name has
half of the shift δ = μ - a·(mean text) from texts to videos: u_c = t_c - δ/(2a), with the constant δΣ⁻¹δ/(8a) that this
costs it given back. (Chosen on training clips of three datasets, each taught and asked for the others' classes.)

The scores of linear discriminant analysis follow, in units of cosines: without examples they are the zero-shot cosines
exactly, so scale, threshold, softmax and sigmoid stay what they were.

A class that is known by its text alone is expected to miss its clips by the squared error of the text, τD/(2aκ). The
taught classes, which are nearer to theirs, would win clips of the others by that; they are set back by √(n/(n+κ)) of
it (the root protects the others with one clip as with many, on clips that were left out). Where all classes have as
many examples that changes nothing.

How far all of this may be trusted beside the plain cosines is found on the examples (`Head.share`).

Whether a video shows one of the taught classes or another one is decided by these scores, as examples of the taught
classes alone can't tell. Which of the taught classes it then is, they can tell, and are trusted: the mean of what the
same rule says for a model that knows the taught classes alone, with a share of 1, and of logistic regression among them
(`probe`), in weights that held-out examples choose (`Head.probe`). No other class loses a video by that
(`Taught.of_classes`). It is left out where the model was tuned on the examples: none of them is like a new clip.

Sources: linear discriminant analysis with a regularised covariance (Friedman, JASA 1989); text features as the prior of
class means as in CLIP-Adapter's and Tip-Adapter's setting (ECCV 2022); the closed-form covariance of GDA on CLIP (Wang
et al., ICLR 2024). `benchmarks/teach.py` compares the rule with others.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from ga2clip.labels import comparable
from ga2clip.runtime.probe import moved_rows

Kind = Literal["class", "not", "none"]
"""What an example shows: the class, something that looks like the class but is not, or none of the classes."""

RULE: Final = "gaussian-text-prior"
TEXT_CLIPS = 4.0
"""κ: the number of clips that a class text counts as."""
_CENTRE_CLASSES = 1.0
_REMEMBERED = 2  # inverses, which are large: a service asks the same names again and again
_SHIFT_HELD_BACK = 0.5
"""Of the shift from texts to videos, for names without examples."""


@dataclass(frozen=True, order=True)
class Example:
    """One example clip: the class name, what it shows of it, and the SHA-256 of its file.

    trained: it came with the exported run, which was tuned on it, and so can't be forgotten. No part of what it is.
    """

    label: str
    kind: Kind
    sha256: str
    trained: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True)
class Examples:
    """Examples with their unit video features, float32 (N, D), in the order of class name, kind and hash."""

    items: tuple[Example, ...]
    features: np.ndarray

    @classmethod
    def sorted(cls, items: Sequence[Example], features: np.ndarray) -> "Examples":
        """Examples in their order, so that the order in which they were taught has no influence."""
        order = sorted(range(len(items)), key=items.__getitem__)
        return cls(tuple(items[index] for index in order), features[order])

    def __add__(self, other: "Examples") -> "Examples":
        return Examples.sorted(self.items + other.items, np.concatenate([self.features, other.features]))

    def keep(self, wanted: Iterable[bool]) -> "Examples":
        """The examples for which `wanted` is true."""
        rows = [index for index, keep in enumerate(wanted) if keep]
        return Examples(tuple(self.items[index] for index in rows), self.features[rows])

    def sha256(self) -> str:
        """Of everything that has an influence on scores."""
        digest = hashlib.sha256(repr(self.items).encode())
        digest.update(np.ascontiguousarray(self.features, "<f4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Rows:
    """Linear scores in units of cosines: `unit features @ rows.T + offsets`. rows: float32 (C, D), offsets: (C,)."""

    rows: np.ndarray
    offsets: np.ndarray

    def scores(self, unit: np.ndarray) -> np.ndarray:
        """Scores float64 (N, C) of unit video features (N, D)."""
        return (unit @ self.rows.T).astype(np.float64) + self.offsets

    def join(self, other: "Rows") -> "Rows":
        """These rows and the others below them."""
        return Rows(np.concatenate([self.rows, other.rows]), np.concatenate([self.offsets, other.offsets]))


@dataclass(frozen=True)
class Taught:
    """The scores of a question's classes by what examples taught, in place of cosines.

    Attributes:
        classes: C rows.
        taught: numbers (A,) of the classes among which examples decide: those that have some.
        among: A rows of those, which say which of them it is.
        negatives: rows of the negative prompts and of the examples of "none of these".
        apart: numbers (A,) of the classes that have examples of what they are not, and
        counterparts: A rows of those.
    """

    classes: Rows
    taught: np.ndarray
    among: Rows
    negatives: Rows
    apart: np.ndarray
    counterparts: Rows

    def of_classes(self, unit: np.ndarray) -> np.ndarray:
        """Scores float64 (N, C) of unit video features (N, D), before what classes are not is taken off.

        The best taught class has the score that the best of them has by `classes`, so that another class is ahead of
        all of them for the same videos; `among` says which it is, and how far the rest of them is behind.
        """
        scores = self.classes.scores(unit)
        if len(self.taught):
            own, which = scores[:, self.taught], self.among.scores(unit)
            scores[:, self.taught] = which + (own.max(axis=1) - which.max(axis=1))[:, None]
        return scores

    def rows(self, unit: np.ndarray) -> np.ndarray:
        """For one video (D,): what it is multiplied with in the scores of the classes, float32 (C, D); the rest of a
        score is a constant.
        """
        rows = self.classes.rows.copy()
        if len(self.taught):
            own = self.classes.scores(unit[None])[0, self.taught].argmax()
            which = self.among.scores(unit[None])[0].argmax()
            rows[self.taught] = self.among.rows + (rows[self.taught[own]] - self.among.rows[which])
        return rows

    def scores(self, unit: np.ndarray, scale: float) -> np.ndarray:
        """Scores float64 (N, C) of unit video features (N, D); `scale` is the factor before the softmax.

        A class and its counterpart share the probability that the class alone would have: its score is lowered by
        log(1 + exp(scale · (counterpart - class)))/scale.
        """
        scores = self.of_classes(unit)
        ahead = scale * (self.counterparts.scores(unit) - scores[:, self.apart])
        scores[:, self.apart] -= np.logaddexp(0.0, ahead) / scale
        return scores


@dataclass(frozen=True)
class Head:
    """What examples teach about the classes of a model.

    Attributes:
        classes: all class names of the model, with
        texts: their text features, float32 (C, D), L2-normalised.
        examples: at least one.
        own: the number of classes that the model had before; the others, behind them, were added.
        unseen: how many classes without examples may be asked for beside `classes`; the covariance is to hold for them,
            too.
        scale_before, threshold_before: the model's scale and open-set threshold before.
        fitted_threshold: the open-set threshold fitted to the examples; None: they are too few.
        share: of the rule in the scores; the rest are the zero-shot cosines. `taught_calibration` chooses it.
        probe: the weight of the logistic regression in what tells the taught classes apart, which `taught_calibration`
            chooses as well; 0: nothing does but the scores.
    """

    classes: tuple[str, ...]
    texts: np.ndarray
    examples: Examples
    own: int
    scale_before: float
    threshold_before: float | None
    unseen: int = 0
    fitted_threshold: float | None = None
    share: float = 1.0
    probe: float = 0.0
    _known: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {comparable(name): row for row, name in enumerate(self.classes)})

    def question(self, names: Sequence[str], texts: np.ndarray, negatives: np.ndarray) -> Taught:
        """The scores of a question. texts, negatives: text features of its classes and of the negative prompts."""
        precision = self._precision(names, texts)
        sums = {row: self._sums.get((comparable(name), "not")) for row, name in enumerate(names)}
        found = {row: own for row, own in sums.items() if own is not None}
        apart = np.array(sorted(found), int)
        none = self._sums.get(("", "none"))
        taught, among = self._among(names, texts)
        return Taught(
            self.rows(names, texts),
            taught,
            among,
            self._rows(
                np.concatenate([negatives, self._fit.mean_text[None][: none is not None]]),
                [self._nothing] * len(negatives) + ([] if none is None else [none]),
                precision,
            ),
            apart,
            self._rows(texts[apart], [found[row] for row in apart], precision),
        )

    def rows(self, names: Sequence[str], texts: np.ndarray) -> Rows:
        """Scores of class names; those without examples, also new ones, go through the same map by their text alone.

        texts: features of the names, float32 (C, D), L2-normalised.
        """
        return self._rows(texts, [self._sum(name) for name in names], self._precision(names, texts))

    def _among(self, names: Sequence[str], texts: np.ndarray) -> tuple[np.ndarray, Rows]:
        """Numbers of the names that have examples, and rows that tell them apart; none where no two have any."""
        nothing = np.zeros(0, int), Rows(texts[:0], np.zeros(0))
        if not self.probe:
            return nothing
        own = self.among_taught
        taught = [row for row, name in enumerate(names) if comparable(name) in own._known]
        if len(taught) < 2:
            return nothing
        gaussian, logistic = own.two_ways([names[row] for row in taught], texts[taught])
        rows = (1 - self.probe) * gaussian.rows + self.probe * logistic.rows
        return np.array(taught), Rows(rows.astype(np.float32), (1 - self.probe) * gaussian.offsets)

    def two_ways(self, names: Sequence[str], texts: np.ndarray) -> tuple[Rows, Rows]:
        """Class names as this rule scores them, and as logistic regression does.

        texts: features of the names, float32 (C, D), L2-normalised.
        """
        moved = np.stack([self._moved.get(comparable(name), self._nothing[1]) for name in names])
        return self.rows(names, texts), Rows((texts + moved).astype(np.float32), np.zeros(len(names)))

    @cached_property
    def among_taught(self) -> "Head":
        """The same examples for a model that knows the taught classes alone, with all of the rule."""
        taught = self.taught_names
        rows = [row for row, name in enumerate(self.classes) if name in taught]
        return replace(
            self,
            classes=tuple(self.classes[row] for row in rows),
            texts=self.texts[rows],
            examples=self.examples.keep(e.kind == "class" for e in self.examples.items),
            own=len(rows),
            share=1.0,
            unseen=0,
        )

    @cached_property
    def _moved(self) -> dict[str, np.ndarray]:
        """How far logistic regression moves the text of every class that has examples."""
        shown = [example.kind == "class" for example in self.examples.items]
        rows = [self._known[comparable(e.label)] for e in self.examples.items if e.kind == "class"]
        taught, labels = np.unique(rows, return_inverse=True)
        moved = moved_rows(self.examples.features[shown], labels, self.texts[taught], self.scale_before)
        return {comparable(self.classes[row]): part for row, part in zip(taught, moved, strict=True)}

    def _sum(self, name: str) -> tuple[float, np.ndarray]:
        return self._sums.get((comparable(name), "class"), self._nothing)

    def _precision(self, names: Sequence[str], texts: np.ndarray) -> np.ndarray:
        """τΣ⁻¹ (D, D) for a question with these names."""
        untaught = [row for row, name in enumerate(names) if not self._sum(name)[0]]
        return self._fit.precision(texts[untaught]) if untaught else self._fit.whole_precision

    @property
    def threshold(self) -> float | None:
        """The open-set threshold. Where it was not fitted, the model's own, or, where there are examples of "none of
        these", 0: that is the answer where they fit better than any class.
        """
        if self.fitted_threshold is not None:
            return self.fitted_threshold
        return (
            0.0 if any(example.kind == "none" for example in self.examples.items) else self.threshold_before
        )

    def without(self, out: np.ndarray) -> "Head":
        """What the other examples teach. out: bool (N,), the examples to leave out."""
        return replace(self, examples=self.examples.keep(~out))

    @property
    def taught_names(self) -> frozenset[str]:
        """The classes that have examples."""
        return frozenset(example.label for example in self.examples.items if example.kind == "class")

    @cached_property
    def _sums(self) -> dict[tuple[str, Kind], tuple[float, np.ndarray]]:
        """Number and sum of the features for every class and kind."""
        sums: dict[tuple[str, Kind], tuple[float, np.ndarray]] = {}
        for example, feature in zip(self.examples.items, self.examples.features, strict=True):
            key: tuple[str, Kind] = (
                "" if example.kind == "none" else comparable(example.label),
                example.kind,
            )
            count, total = sums.get(key, self._nothing)
            sums[key] = count + 1, total + feature
        return sums

    @property
    def _nothing(self) -> tuple[float, np.ndarray]:
        return 0.0, np.zeros(self.texts.shape[1])

    @cached_property
    def _fit(self) -> "_Fit":
        shown = [example.kind == "class" for example in self.examples.items]
        labels = [self._known[comparable(e.label)] for e in self.examples.items if e.kind == "class"]
        return _fit(
            self.texts.astype(np.float64),
            self.examples.features[shown].astype(np.float64),
            np.array(labels, int),
            self.unseen,
        )

    def _rows(
        self, texts: np.ndarray, sums: Sequence[tuple[float, np.ndarray]], precision: np.ndarray
    ) -> Rows:
        fit = self._fit
        centred = texts - fit.mean_text
        counts = np.array([count for count, _ in sums])[:, None]
        seen = np.reshape([total for _, total in sums], centred.shape) - counts * fit.centre
        means = (TEXT_CLIPS * centred + seen / fit.length) / (TEXT_CLIPS + counts)
        back = np.where(counts == 0, _SHIFT_HELD_BACK * fit.shift / fit.length, 0.0)
        means = means - back
        rows = means @ precision
        offsets = (
            -rows @ fit.centre
            + fit.length / 2 * (1 - fit.mean_text @ fit.mean_text - (rows * means).sum(axis=1))
            - fit.setback * np.sqrt(counts / (counts + TEXT_CLIPS))[:, 0]
            + fit.length / 2 * ((back @ precision) * back).sum(axis=1)
        )
        mixed = self.share * rows + (1 - self.share) * centred + fit.mean_text
        return Rows(mixed.astype(np.float32), self.share * offsets)


@dataclass(frozen=True)
class _Fit:
    """centre: μ (D,). length: a. mean_text: (D,). covariance: S/τ (D, D). weight: 1-λ. setback: τD/(2aκ)."""

    centre: np.ndarray
    length: float
    mean_text: np.ndarray
    covariance: np.ndarray
    weight: float
    setback: float

    @property
    def shift(self) -> np.ndarray:
        """δ (D,), how far the videos lie from where their texts would have them."""
        return self.centre - self.length * self.mean_text

    @cached_property
    def whole_precision(self) -> np.ndarray:
        """τΣ⁻¹ (D, D) where all names have examples."""
        return self._inverse(self.covariance)

    def precision(self, texts: np.ndarray) -> np.ndarray:
        """τΣ⁻¹ (D, D) where names with these text features (M, D) have no examples; remembered for the last ones."""
        key, known = texts.tobytes(), self._inverses
        found = known.get(key)
        if found is None:
            found = self._precision(texts)
            for oldest in list(known)[: 1 - _REMEMBERED]:
                known.pop(oldest, None)
            known[key] = found
        return found

    @cached_property
    def _inverses(self) -> dict[bytes, np.ndarray]:
        return {}

    def _precision(self, texts: np.ndarray) -> np.ndarray:
        _, lengths, directions = np.linalg.svd(texts - self.mean_text, full_matrices=False)
        kept = directions[lengths > 1e-6 * max(lengths[0], 1e-12)]
        rest = np.eye(len(self.mean_text)) - kept.T @ kept
        return self._inverse(rest @ self.covariance @ rest + kept.T @ kept)

    def _inverse(self, covariance: np.ndarray) -> np.ndarray:
        plain = np.eye(len(self.mean_text))
        return np.linalg.inv((1 - self.weight) * plain + self.weight * covariance)


def _fit(texts: np.ndarray, features: np.ndarray, labels: np.ndarray, unseen: int) -> _Fit:
    """texts: (C, D). features: (N, D) of the examples. labels: (N,) their classes. unseen: as in `Head`."""
    count, width = texts.shape
    mean_text = texts.mean(axis=0)
    centred = texts - mean_text
    taught, place, seen = np.unique(labels, return_inverse=True, return_counts=True)
    if not len(taught):  # examples of "none of these" and of "not this class" say nothing about the classes
        return _Fit(mean_text, 1.0, mean_text, np.eye(width), 0.0, 0.0)
    means = np.zeros((len(taught), width))
    np.add.at(means, place, features)
    means /= seen[:, None]
    weights = seen / (seen + TEXT_CLIPS)
    # μ = p + a·q minimises Σ w|mean - μ - a·t|² + ν|μ - a·mean_text|² for a given a; then a by least squares.
    total = _CENTRE_CLASSES + weights.sum()
    p = weights @ means / total
    q = (_CENTRE_CLASSES * mean_text - weights @ centred[taught]) / total
    along, apart = centred[taught] + q, mean_text - q
    fitted = weights @ ((means - p) * along).sum(axis=1) + _CENTRE_CLASSES * (p @ apart)
    energy = weights @ (along * along).sum(axis=1) + _CENTRE_CLASSES * (apart @ apart)
    length = float(max(fitted / max(energy, 1e-12), _SHORTEST))
    centre = p + length * q
    learned = (TEXT_CLIPS * length * centred[taught] + seen[:, None] * (means - centre)) / (
        TEXT_CLIPS + seen[:, None]
    )
    around = features - centre - learned[place]
    spread = float((around * around).sum() / len(features))
    share = len(taught) / (count + unseen) * len(features) / (len(features) + width)
    covariance = around.T @ around / len(features) * (width / spread) if spread > 1e-9 else np.eye(width)
    return _Fit(centre, length, mean_text, covariance, share, spread / (2 * length * TEXT_CLIPS))


_SHORTEST = 0.1
"""Smallest a: the texts of a model whose examples do not agree with them at all still count a little."""
