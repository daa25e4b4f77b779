"""The outputs of `predict`: the terminal, one JSON object, or a CSV or JSON Lines file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ga2clip.errors import UserError
from ga2clip.predictions import Asked, Failure, Prediction, as_json
from ga2clip.text import counted, printable
from ga2clip_cli import console

if TYPE_CHECKING:
    from ga2clip.choices import ScoringRule
    from ga2clip.predictions import Explanation
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.results import ResultFile


_BAR = 30  # characters of the bar of the frame that carried most
_MOST_DRAWN = 50  # videos in one picture, whose frames are kept until it is drawn


class TextAnswers:
    """Prints each ranking at once."""

    done: frozenset[str] = frozenset()

    def __enter__(self) -> "TextAnswers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, part: Prediction | Failure) -> None:
        """Print one ranking. (Failures are reported on stderr by the caller, for every output.)"""
        if isinstance(part, Prediction):
            console.emit(ranking(part))


class JsonAnswers:
    """Collects all answers and prints one JSON object when the block ends without an error."""

    done: frozenset[str] = frozenset()

    def __init__(self, model: str, provider: str, asked: Asked, scoring: "ScoringRule") -> None:
        self._model, self._provider, self._asked, self._scoring = model, provider, asked, scoring
        self._parts: list[Prediction | Failure] = []

    def __enter__(self) -> "JsonAnswers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            console.emit_json(as_json(self._model, self._provider, self._parts, self._asked, self._scoring))

    def add(self, part: Prediction | Failure) -> None:
        """Add one answer."""
        self._parts.append(part)


def ranking(answer: Prediction) -> str:
    """The file's name, then a line per class with its probability; what is chosen, where it was asked for."""
    lines = [f"{printable(answer.file)}  ({counted(answer.frames, 'frame')} of {answer.duration:.1f} s)"]
    lines += [
        f"  {100 * probability:5.1f} %  {printable(label)}" for label, probability in answer.predictions
    ]
    if answer.chosen is not None:
        lines.append(f"  chosen: {', '.join(map(printable, answer.chosen)) or 'none'}")
    if answer.explanation is not None:
        lines += explained(answer.explanation)
    return "\n".join(lines)


def explained(found: "Explanation") -> list[str]:
    """A line per frame: when it is shown, and its weight in the best label as a number and a bar."""
    best = found.classes[0]
    how = "" if found.rule == "exact" else ", an approximation"
    head = f"  frames that carried '{printable(best.label)}'{how}:"
    most = max(*best.weights, 1e-9)
    return [head] + [
        f"    {time:7.2f} s  {100 * weight:5.1f} %  {'█' * round(_BAR * weight / most)}".rstrip()
        for time, weight in zip(found.times, best.weights, strict=True)
    ]


def open_sink(
    predictor: "Predictor",
    question: dict[str, Any],
    *,
    as_json: bool,
    csv: Path | None,
    jsonl: Path | None,
    resume: Path | None,
) -> "TextAnswers | JsonAnswers | ResultFile":
    """The output for the given options: a results file (`resume` continues one), JSON or text.

    question: the keyword arguments of `predict_many`.
    """
    out = csv or jsonl or resume
    if out is None and not as_json:
        return TextAnswers()
    asked = Asked.of(
        predictor.fingerprint,
        question["classes"] or predictor.classes,
        question["template"],
        reject=question["reject"],
        top=question["top"],
        choice="" if question["choice"] is None else question["choice"].asked(),
        explain=question["explain"],
    )
    if out is None:
        return JsonAnswers(predictor.name, predictor.provider, asked, predictor.scoring)
    from ga2clip.runtime.results import ResultFile

    kind: Literal["csv", "jsonl"] | None = "csv" if csv else "jsonl" if jsonl else None
    return ResultFile(
        out,
        model=predictor.name,
        provider=predictor.provider,
        asked=asked,
        format=kind,
        resume=resume is not None,
        scoring=predictor.scoring,
    )


def answer_files(
    predictor: "Predictor",
    files: list[str],
    sink: "TextAnswers | JsonAnswers | ResultFile",
    plot: Path | None = None,
    **question: Any,
) -> int:
    """Rank the classes for every video in `files` (folders are searched); returns the number of failed videos.

    Failures are reported on stderr; at the end, their number and the results file. plot: a PNG file for the frames of
    explained answers.
    """
    from ga2clip.runtime.results import ResultFile, expand
    from ga2clip.video import is_byte_stream

    as_named = [file for file in files if "://" in file or is_byte_stream(file)]
    expanded = ([file] if file in as_named else expand([Path(file)]) for file in files)
    paths = list(dict.fromkeys(str(path) for group in expanded for path in group))
    todo = _with_their_batches(paths, sink.done, question["batch"])
    answered = failures = 0
    shown: list[Prediction] = []
    if plot is not None and len(paths) > _MOST_DRAWN:
        raise UserError(
            f"{len(paths)} videos are too many for {plot}", f"draw at most {_MOST_DRAWN}, or take --jsonl"
        )
    if isinstance(sink, ResultFile):
        sink.set_order(paths)
    with sink:
        for answer in console.progress(predictor.predict_many(todo, **question), len(todo), "video"):
            if answer.file in sink.done:
                continue
            if plot is not None and isinstance(answer, Prediction):
                shown.append(answer)
            sink.add(_without_frames(answer))
            if isinstance(answer, Failure):
                console.note(f"error: {printable(answer.error)}")
                failures += 1
            else:
                answered += 1
    if plot is not None and shown:
        from ga2clip.runtime.draw_explanation import draw_explanations

        console.note(f"plot: {draw_explanations(shown, plot)}")
    before = len(paths) - answered - failures
    if isinstance(sink, ResultFile):
        kept = f", {before} were answered before" if before else ""
        console.note(f"{counted(answered, 'video')} answered, {failures} failed{kept}: {printable(sink.out)}")
    elif failures and len(paths) > 1:
        console.note(f"{failures} of {counted(len(paths), 'video')} failed")
    return failures


def _without_frames(answer: Prediction | Failure) -> Prediction | Failure:
    """The answer without the pixels of an explanation, so that many answers may be collected."""
    if isinstance(answer, Failure) or answer.explanation is None:
        return answer
    return replace(answer, explanation=replace(answer.explanation, frames=None))


def _with_their_batches(files: Sequence[str], done: frozenset[str], batch: int) -> list[str]:
    """The files without an answer, and all files of their batches.

    The last digits of a probability depend on the other videos of the batch. So incomplete batches are computed again
    as a whole, which gives the same numbers as without an interruption.
    """
    groups = (files[start : start + batch] for start in range(0, len(files), batch))
    return [file for group in groups if not done.issuperset(group) for file in group]
