"""What a model answered on each test clip, as `clips.csv`: to find wrong ones and compare models clip by clip."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ga2clip.errors import UserError
from ga2clip.evaluation.metrics import TOP
from ga2clip.text import csv_lines, csv_value

FILE_NAME = "clips.csv"
_RANKS = range(1, TOP + 1)
COLUMNS = (
    "set",
    "split",
    "file",
    "label",
    "correct",
    "frames",
    *(f"{name}_{rank}" for rank in _RANKS for name in ("answer", "score")),
    "warnings",
)


@dataclass(frozen=True)
class ClipAnswer:
    """One test clip.

    file: its path below the dataset's folder. label: its class. frames: how many it has, 0 where nobody counted.
    answers: (class, probability), best first, at most five; empty for a clip that could not be read. warnings: why
    it could not be read, or what else is unusual.
    """

    file: str
    label: str
    frames: int
    answers: tuple[tuple[str, float], ...]
    warnings: str = ""

    @property
    def correct(self) -> bool:
        """Whether the best answer is the label."""
        return bool(self.answers) and self.answers[0][0] == self.label


Key = tuple[str, int, str]
"""(set, split, file): what one answer is about."""


def clip_lines(parts: Iterable[tuple[str, int, Iterable[ClipAnswer]]]) -> str:
    """The text of `clips.csv`; parts: (set, split, answers)."""
    rows: list[tuple[object, ...]] = [COLUMNS]
    for name, split, answers in parts:
        rows += [_row(name, split, answer) for answer in answers]
    return csv_lines(rows)


def _row(name: str, split: int, answer: ClipAnswer) -> tuple[object, ...]:
    ranked: list[object] = []
    for label, score in answer.answers:
        ranked += [label, f"{score:.6f}"]
    ranked += [""] * (2 * TOP - len(ranked))
    about = (csv_file(answer.file), answer.label, int(answer.correct), answer.frames or "")
    return (name, split, *about, *ranked, csv_file(answer.warnings))


def csv_file(text: str) -> str:
    """A file's name as `clips.csv` has it: bytes that are no UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_answers(file: Path) -> dict[Key, ClipAnswer]:
    """Every answer of a `clips.csv`.

    Raises:
        UserError: the file is missing or is no such table.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines, strict=True)
            return {(row["set"], int(row["split"]), csv_value(row["file"])): _answer(row) for row in rows}
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", "run `ga2clip eval` again") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{file} is damaged: {error}", "run `ga2clip eval` again") from None


def _answer(row: dict[str, str]) -> ClipAnswer:
    """Raises ValueError for a row that contradicts itself, as a cut or edited one does."""
    ranked = tuple(
        (csv_value(row[f"answer_{rank}"]), float(row[f"score_{rank}"]))
        for rank in _RANKS
        if row[f"answer_{rank}"]
    )
    answer = ClipAnswer(
        file=csv_value(row["file"]),
        label=csv_value(row["label"]),
        frames=int(row["frames"] or 0),
        answers=ranked,
        warnings=csv_value(row["warnings"]),
    )
    if ("0", "1").index(row["correct"]) != answer.correct:
        raise ValueError(f"{answer.file}: 'correct' contradicts its label and answer")
    return answer
