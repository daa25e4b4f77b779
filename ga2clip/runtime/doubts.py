"""What a user should know about a question: classes that can't be told apart, guesses, questions without a choice."""

import logging
from collections.abc import Collection, Sequence

import numpy as np

from ga2clip.errors import UserError
from ga2clip.labels import comparable
from ga2clip.runtime.calibration import Coverage, MultiLabel, fewest
from ga2clip.runtime.calibration_card import FEWEST
from ga2clip.runtime.scoring import NONE_LABEL, Scorer
from ga2clip.text import printable, some

_log = logging.getLogger(__name__)

ALIKE = 0.999
"""Cosine of two class features above which the model cannot tell the classes apart."""
_ROWS = 1024  # of the table of cosines that is in memory at once


def alike_classes(
    names: Sequence[str], features: np.ndarray, taught: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Pairs of classes whose features (C, D), L2-normalised, have a cosine above 0.999, each class with its first.

    taught: names that examples tell apart, whatever their texts.
    """
    partner: dict[int, int] = {}
    for start in range(0, len(names), _ROWS):
        cosines = features[start : start + _ROWS].astype(np.float64) @ features.T
        for row, other in np.argwhere(np.triu(cosines > ALIKE, k=start + 1)).tolist():
            if names[start + row] not in taught and names[other] not in taught:
                partner.setdefault(other, start + row)
    return [(names[one], names[other]) for other, one in partner.items()]


def warn_of_classes(
    names: Sequence[str], features: np.ndarray, unknown: Sequence[str] = (), taught: Collection[str] = ()
) -> None:
    """Log classes that can't be told apart by their features (C, D) or by examples, and unknown words."""
    if unknown:
        _log.warning(
            "the backbone has never seen these words, they mean nothing to it: %s", some(list(unknown))
        )
    if pairs := alike_classes(names, features, taught):
        _log.warning(
            "the model cannot tell these classes apart, their texts mean the same to it: %s; choose other words, or "
            "teach them by examples",
            some([f"{one} = {other}" for one, other in pairs]),
        )


def warn_of_one(name: str) -> None:
    """Log that a class stands alone."""
    _log.warning(
        "'%s' is the only class: it gets 100 %% whatever the video shows; name others too, or take --reject",
        printable(name),
    )


def check_choice(scorer: Scorer, names: Sequence[str], model: str) -> None:
    """Raises UserError for a choice that the model can't make, or that does not go with rejection.

    names: the question's class names. model: its name, for messages.
    """
    choice, calibration = scorer.choice, scorer.calibration
    if choice is None:
        return
    what = "--multi-label" if isinstance(choice, MultiLabel) else "--coverage"
    hint: str | None
    if calibration is None:
        if scorer.rule == "sigmoid":
            hint = "its probabilities are of each class by itself already"
        elif scorer.taught is not None:
            hint = f"it is fitted to examples: teach at least {FEWEST} clips, of all classes that matter"
        else:
            hint = "`ga2clip export RUN` fits it where the run's dataset is prepared"
        raise UserError(f"{model} has no calibration, which {what} needs", hint)
    if isinstance(choice, Coverage) and not calibration.card.makes_sets:
        raise UserError(
            f"{model} was calibrated by an earlier version, whose sets hold the true class too rarely",
            "export it again with: ga2clip export RUN; all but --coverage works as it is",
        )
    clips = calibration.card.clips
    if isinstance(choice, Coverage) and (needed := fewest(choice.share)) > clips:
        raise UserError(
            f"a coverage of {choice.share:g} needs {needed} calibration clips, {model} has {clips}",
            f"ask for {_largest(clips):g} at most{', or teach more examples' if scorer.taught else ''}",
        )
    if scorer.threshold is not None:
        hint = "with --multi-label, no class may be true" if isinstance(choice, MultiLabel) else None
        raise UserError(f"{what} and --reject ('{NONE_LABEL}') exclude each other", hint)
    if isinstance(choice, MultiLabel):
        calibration.thresholds(names, choice.thresholds)


def _largest(clips: int) -> float:
    """The largest coverage, in whole hundredths, that so many calibration clips are enough for."""
    return next(share / 100 for share in range(99, 0, -1) if fewest(share / 100) <= clips)


def warn_of_question(
    scorer: Scorer,
    names: Sequence[str],
    unknown: Sequence[str] = (),
    taught: Collection[str] = (),
    *,
    lacking: str = "",
) -> None:
    """Log what makes the answers to a question doubtful.

    Args:
        scorer: the question.
        names: its class names.
        unknown: words in the names that the backbone has never seen.
        taught: names that examples tell apart.
        lacking: the examples without which the open-set threshold could not be fitted to the model as it is.
    """
    choice, calibration = scorer.choice, scorer.calibration
    warn_of_classes(names, scorer.features, unknown, taught)
    alone = scorer.rule == "softmax" and scorer.threshold is None and not isinstance(choice, MultiLabel)
    if len(names) == 1 and alone:
        warn_of_one(names[0])
    if choice is None and scorer.threshold is None:
        return
    what = f"'{NONE_LABEL}'" if choice is None else "what is chosen"
    if choice is None and lacking:
        _log.warning("%s is a guess: its threshold is not fitted to the examples; teach %s", *(what, lacking))
        return
    known = set(map(comparable, taught))
    if scorer.taught is not None:
        new, said = [name for name in names if comparable(name) not in known], "the model has no examples of"
    else:
        guesses = () if calibration is None else calibration.guesses
        new, said = (
            [n for n, guess in zip(names, guesses, strict=False) if guess],
            "the model was not tuned on",
        )
    if new:
        more = ", and sets may hold the true class less often than asked, whichever it is"
        _log.warning(
            "%s %d of the %d classes (%s): %s is a guess for them%s",
            *(said, len(new), len(names), some(new), what, more if isinstance(choice, Coverage) else ""),
        )
