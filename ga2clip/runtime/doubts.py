"""What a user should know about a question: classes that can't be told apart, guesses, questions without a choice."""

import logging
from collections.abc import Sequence

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.calibration import MultiLabel
from ga2clip.runtime.scoring import NONE_LABEL, Scorer
from ga2clip.text import printable, some

_log = logging.getLogger(__name__)

ALIKE = 0.999
"""Cosine of two class features above which the model cannot tell the classes apart."""


def alike_classes(names: Sequence[str], features: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of classes whose features (C, D), L2-normalised, have a cosine above 0.999, each class with its first."""
    cosines = features.astype(np.float64) @ features.T
    first, second = np.nonzero(np.triu(cosines > ALIKE, k=1))
    partner: dict[int, int] = {}
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        partner.setdefault(other, one)
    return [(names[one], names[other]) for other, one in partner.items()]


def warn_of_classes(names: Sequence[str], features: np.ndarray, unknown: Sequence[str] = ()) -> None:
    """Log classes that can't be told apart by their features (C, D), and unknown words."""
    if unknown:
        _log.warning(
            "the backbone has never seen these words, they mean nothing to it: %s", some(list(unknown))
        )
    if pairs := alike_classes(names, features):
        _log.warning(
            "the model cannot tell these classes apart, their texts mean the same to it: %s",
            some([f"{one} = {other}" for one, other in pairs]),
        )


def warn_of_one(name: str) -> None:
    """Log that a class stands alone."""
    _log.warning(
        "'%s' is the only class: it gets 100 %% whatever the video shows; name others too, or take --reject",
        printable(name),
    )


def check_question(scorer: Scorer, names: Sequence[str], model: str, unknown: Sequence[str] = ()) -> None:
    """Log what makes the answers to a question doubtful.

    Args:
        scorer: the question.
        names: its class names.
        model: the model's name, for messages.
        unknown: words in the names that the backbone has never seen.

    Raises:
        UserError: a choice that the model can't make, or that does not go with rejection.
    """
    choice, calibration = scorer.choice, scorer.calibration
    if choice is not None:
        what = "--multi-label" if isinstance(choice, MultiLabel) else "--coverage"
        if calibration is None:
            raise UserError(
                f"{model} has no calibration, which {what} needs",
                "`ga2clip export RUN` fits it where the run's dataset is prepared"
                if scorer.rule == "softmax"
                else "its probabilities are of each class by itself already",
            )
        if scorer.threshold is not None:
            hint = "with --multi-label, no class may be true" if isinstance(choice, MultiLabel) else None
            raise UserError(f"{what} and --reject ('{NONE_LABEL}') exclude each other", hint)
        if isinstance(choice, MultiLabel):
            calibration.thresholds(names, choice.thresholds)
    warn_of_classes(names, scorer.features, unknown)
    if len(names) == 1 and scorer.threshold is None and not isinstance(choice, MultiLabel):
        warn_of_one(names[0])
    new = [] if calibration is None else [n for n, g in zip(names, calibration.guesses, strict=True) if g]
    if new and (choice is not None or scorer.threshold is not None):
        _log.warning(
            "the model was not tuned on %d of the %d classes (%s): %s is a guess for them",
            *(len(new), len(names), some(new)),
            f"'{NONE_LABEL}'" if choice is None else "what is chosen",
        )
