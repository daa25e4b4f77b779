"""What the calibration of a bundle says about the classes of a question: temperatures, independent scores, sets.

`export` fits two of each kind: for the classes that the model was tuned on, and for new names. A name lies between
them by the distance of its text from the nearest tuned class, so that another wording of a tuned class is treated
almost as that class.

Where the model has negative prompts, they take part in the softmax, and what they get is shared by all classes alike: a
clip that looks like "none of these" is less sure, and the ranking stays.

Sources: temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2); by the
distance of the best class from the tuned ones (Wang et al., "Open-Vocabulary Calibration for Fine-tuned CLIP", ICML
2024; their rule differs); sigmoids of single scores (Platt, "Probabilistic Outputs for Support Vector Machines", 1999);
sets of classes (Sadinle, Lei & Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", JASA
2019; Angelopoulos & Bates, "A Gentle Introduction to Conformal Prediction", 2021).
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError, unknown_name
from ga2clip.labels import check_class_names, comparable
from ga2clip.runtime.calibration_card import CalibrationCard, GroupCalibration
from ga2clip.text import no_key_twice

_THRESHOLDS = """it takes a number such as 0.4, or a JSON file such as {"juggling": 0.4}"""
_OTHER = 0.01
"""Newness up to which a class counts as a tuned one: what rounding and int8 change in a text feature."""


@dataclass(frozen=True)
class MultiLabel:
    """Ask for every class by itself: several may be true, or none.

    Attributes:
        thresholds: from which score on a class counts as true, by class name or one for all; None, and for names that
            are left out: those of the bundle.

    Raises:
        UserError: a number that is not from 0 to 1, or a class that is named twice.
    """

    thresholds: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        _check_thresholds(self.thresholds)

    def asked(self) -> str:
        """Equal for equal questions, however the classes are spelled and in whatever order."""
        if self.thresholds is None or self.thresholds == {}:
            return "multi-label"
        if not isinstance(self.thresholds, Mapping):
            return f"multi-label, threshold {float(self.thresholds)}"
        values = sorted((comparable(name), float(value)) for name, value in self.thresholds.items())
        return f"multi-label, thresholds {hashlib.sha256(json.dumps(values).encode()).hexdigest()}"


@dataclass(frozen=True)
class Coverage:
    """Ask for a set of classes that holds the true one with a given probability.

    Attributes:
        share: the probability, above 0 and below 1.
    """

    share: float

    def __post_init__(self) -> None:
        share = self.share
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise UserError(
                f"the coverage must be a number between 0 and 1, got {share!r:.40}", "such as 0.9"
            )

    def asked(self) -> str:
        """Equal for equal questions."""
        return f"coverage {self.share}"


Choice = MultiLabel | Coverage


def _check_thresholds(given: object, where: str = "") -> None:
    """Raises UserError for what `MultiLabel` can't take. where: the file, for the message."""
    prefix = f"{where}: " if where else ""
    if isinstance(given, Mapping):
        values = {f"the threshold of {name!r:.60}": value for name, value in given.items()}
    else:
        values = {} if given is None else {"a threshold": given}
    for what, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"{prefix}{what} must be a number from 0 to 1, got {value!r:.40}", _THRESHOLDS)
    if isinstance(given, Mapping) and given:
        check_class_names(list(given), where or "thresholds")


def read_thresholds(text: str) -> float | dict[str, float]:
    """A number, or the content of the JSON file `{"class name": number}` of that name.

    Raises UserError for a file that is missing or something else, that names a class twice, or whose numbers are not
    from 0 to 1; `MultiLabel` checks a number that stands alone.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        # "utf-8-sig": some editors begin a file with the mark of its encoding.
        tree = json.loads(Path(text).read_text(encoding="utf-8-sig"), object_pairs_hook=no_key_twice)
    except OSError as error:
        raise UserError(f"cannot read the thresholds {text}: {error.strerror}", _THRESHOLDS) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"the thresholds {text} are not valid JSON: {error}", _THRESHOLDS) from None
    if not isinstance(tree, dict) or not tree:
        raise UserError(f"the thresholds {text} name no class", _THRESHOLDS)
    _check_thresholds(tree, f"the thresholds {text}")
    return tree


@dataclass(frozen=True)
class Calibration:
    """The calibration of the C classes of a question.

    Attributes:
        card: what the bundle holds.
        newness: float64 (C,), 0 for a tuned class to 1 for a name that is as far from all of them as they are from
            each other.
    """

    card: CalibrationCard
    newness: np.ndarray

    @classmethod
    def of(cls, card: CalibrationCard, features: np.ndarray, tuned: np.ndarray) -> "Calibration":
        """From the L2-normalised features of the question's classes (C, D) and of the tuned classes (K, D)."""
        distances = 1.0 - (features.astype(np.float64) @ tuned.T).max(axis=1)
        return cls(card, np.clip(distances / card.reach, 0.0, 1.0))

    @classmethod
    def of_taught(cls, card: CalibrationCard, names: Sequence[str], taught: Collection[str]) -> "Calibration":
        """Fitted to the examples of the `taught` classes: the other names of the question (C) are as far as can be."""
        known = set(map(comparable, taught))
        return cls(card, np.array([float(comparable(name) not in known) for name in names]))

    @property
    def guesses(self) -> np.ndarray:
        """(C,) whether a class is not one of those on whose clips the calibration was fitted."""
        return self.newness > _OTHER

    @cached_property
    def temperatures(self) -> np.ndarray:
        """float64 (C,): what the logits of a video are divided by whose best class this is."""
        return np.exp(self._between(lambda group: math.log(group.temperature)))

    @cached_property
    def negative_offsets(self) -> np.ndarray | None:
        """float64 (C,): what is added to the negative prompts' logits of a video whose best class this is.

        None: the negative prompts take no part.
        """
        if self.card.without_negatives:
            return None
        return self._between(lambda group: group.negative_offset or 0.0)

    def probabilities(self, logits: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        """Probabilities float64 (N, C) in the order of the logits.

        logits: (N, C), scale times cosine; a last column of "none of these" may follow. negatives: those of the
        negative prompts, (N, K).
        """
        best = logits[:, : len(self.newness)].argmax(axis=1)
        temperatures, offsets = self.temperatures[best][:, None], self.negative_offsets
        if offsets is None or not negatives.shape[1]:
            return softmax(logits / temperatures)
        return softmax_with_negatives(
            logits / temperatures, (negatives + offsets[best][:, None]) / temperatures
        )

    def independent(self, logits: np.ndarray) -> np.ndarray:
        """Scores float64 (N, C), each a probability by itself, of the logits (N, C): scale times cosine."""
        slopes = self._between(lambda group: group.slope)
        return 1.0 / (1.0 + np.exp(-np.clip(slopes * logits + self._between(lambda g: g.offset), -700, 700)))

    def thresholds(self, names: Sequence[str], given: float | Mapping[str, float] | None) -> np.ndarray:
        """From which score on each class counts as true, float64 (C,).

        Raises UserError for a given name that is not among the classes.
        """
        if isinstance(given, int | float):
            return np.full(len(names), float(given))
        own = {comparable(name): value for name, value in (given or {}).items()}
        known = {comparable(name) for name in names}
        for name in given or {}:
            if comparable(name) not in known:
                raise unknown_name("class", name, tuple(names))
        fitted = {comparable(name): value for name, value in self.card.thresholds.items()}
        values = []
        for name, guess in zip(names, self.guesses, strict=True):
            usual = self.card.usual_threshold
            usual = usual if guess else fitted.get(comparable(name), usual)
            values.append(own.get(comparable(name), usual))
        return np.array(values)

    def sets(self, probabilities: np.ndarray, share: float) -> np.ndarray:
        """The classes of the set of this coverage, bool (N, C), with the best one always.

        probabilities: (N, C), without negative prompts, as those of the calibration clips whose misses the card holds.
        """
        lowest = 1.0 - self._between(lambda group: quantile(group.misses, share))
        return np.asarray(
            (probabilities >= lowest) | (probabilities >= probabilities.max(axis=1, keepdims=True))
        )

    def _between(self, value: Callable[[GroupCalibration], float]) -> np.ndarray:
        tuned = value(self.card.tuned)
        new = tuned if self.card.new is None else value(self.card.new)
        return np.asarray((1 - self.newness) * tuned + self.newness * new, np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of rows (N, C), float64."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def softmax_with_negatives(logits: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Probabilities float64 (N, C) of classes among which the share of the negatives is divided equally.

    logits: (N, C). negatives: logits of the negative prompts, (N, K).
    """
    count = logits.shape[1]
    whole = softmax(np.concatenate([logits, negatives], axis=1))
    return in_order(whole[:, :count] + whole[:, count:].sum(axis=1, keepdims=True) / count, logits)


def in_order(probabilities: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (N, C), at least 0, in the order of the logits (N, C), of which they are rising functions.

    Those that rounding has made equal are lowered to the next smaller numbers.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    # The bits of float64 numbers from 0 on, read as integers, count them.
    numbers = np.take_along_axis(probabilities, order, axis=1).view(np.int64)
    places = np.arange(logits.shape[1])
    lowered = np.maximum(np.minimum.accumulate(numbers + places, axis=1) - places, 0)
    found = np.empty_like(probabilities)
    np.put_along_axis(found, order, lowered.view(np.float64), axis=1)
    return found


def fewest(share: float) -> int:
    """The number of calibration clips from which on a set of this coverage may leave out a class."""
    count = max(int(share / (1 - share)) - 1, 0)
    while _place(count, share) > count:
        count += 1
    return count


def quantile(misses: Sequence[float] | np.ndarray, share: float) -> float:
    """The ⌈(n + 1) · share⌉-th smallest of n values, so that a further one is not above it with that probability.

    It is 1, which every probability reaches, where n values are too few to say so.
    """
    place = _place(len(misses), share)
    return 1.0 if place > len(misses) else float(sorted(misses)[place - 1])


def _place(count: int, share: float) -> int:
    return math.ceil(round((count + 1) * share, 9))  # 0.07 · 100 is above 7 in binary
