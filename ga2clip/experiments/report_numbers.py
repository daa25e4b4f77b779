"""What the report page shows of a measurement's answers, in NumPy and plain Python: no files, no HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.evaluation.reliability import Bin, filled_bins
from ga2clip.evaluation.statistics import mcnemar
from ga2clip.runtime.reliability import expected_calibration_error

CLOSE = 0.5
"""Two probabilities that are less than this apart are a close call."""


@dataclass(frozen=True)
class ClassLine:
    """One class of a test set.

    accuracy: top-1 of its clips, a fraction. untuned: the same of the backbone as it is, None where it was not
    measured. taken_for: the most frequent wrong answer, and how often.
    """

    name: str
    clips: int
    accuracy: float
    untuned: float | None
    taken_for: tuple[str, int] | None


def reliability(answers: Sequence[ClipAnswer]) -> tuple[list[Bin], float]:
    """The bins that hold an answer, and the expected calibration error as a fraction.

    The error is nan for no answer.
    """
    scored = [(answer.answers[0][1], answer.correct) for answer in answers if answer.answers]
    chance = np.array([probability for probability, _ in scored])
    right = np.array([correct for _, correct in scored], dtype=np.bool_)
    return filled_bins(chance, right), expected_calibration_error(chance, right)


def confusions(answers: Sequence[ClipAnswer]) -> Counter[tuple[str, str]]:
    """How often clips of a class (first) were given an answer (second); clips that can't be read are left out."""
    return Counter((answer.label, answer.answers[0][0]) for answer in answers if answer.answers)


def class_lines(answers: Sequence[ClipAnswer], untuned: Mapping[str, ClipAnswer] | None) -> list[ClassLine]:
    """A line per class that has clips, the least accurate first. untuned: its answers by file, None if not measured."""
    by_class: dict[str, list[ClipAnswer]] = {}
    for answer in answers:
        by_class.setdefault(answer.label, []).append(answer)
    lines = []
    for name, own in by_class.items():
        wrong = Counter(answer.answers[0][0] for answer in own if answer.answers and not answer.correct)
        theirs = None if untuned is None else _share([untuned[answer.file] for answer in own])
        # Of equally frequent ones the first by name, so that the page is the same whatever the order of the clips.
        most = min(wrong.items(), key=lambda item: (-item[1], item[0])) if wrong else None
        lines.append(ClassLine(name, len(own), _share(own), theirs, most))
    return sorted(lines, key=lambda line: (line.accuracy, -line.clips, line.name))


def _share(answers: Sequence[ClipAnswer]) -> float:
    return sum(answer.correct for answer in answers) / len(answers)


def wrong_clips(answers: Sequence[ClipAnswer], most: int) -> list[ClipAnswer]:
    """The clips that were answered wrongly, the surest first: wrong labels are found among them."""
    wrong = [answer for answer in answers if answer.answers and not answer.correct]
    return sorted(wrong, key=lambda answer: (-answer.answers[0][1], answer.file))[:most]


def unsure_clips(answers: Sequence[ClipAnswer], most: int) -> list[ClipAnswer]:
    """The clips whose two best answers lie less than `CLOSE` apart, the closest first."""
    apart = {a.file: a.answers[0][1] - a.answers[1][1] for a in answers if len(a.answers) > 1}
    close = [answer for answer in answers if apart.get(answer.file, CLOSE) < CLOSE]
    return sorted(close, key=lambda answer: (apart[answer.file], answer.file))[:most]


def against(ours: Sequence[ClipAnswer], untuned: Mapping[str, ClipAnswer]) -> tuple[float, float]:
    """Difference in top-1, ours − untuned, and its p-value by McNemar's exact test on the same clips."""
    theirs = [untuned[answer.file] for answer in ours]
    p = mcnemar([answer.correct for answer in ours], [answer.correct for answer in theirs])
    return _share(ours) - _share(theirs), p
