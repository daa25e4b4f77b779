"""Where the rankings of a batch go: the terminal, one JSON object, or a CSV or JSON Lines file."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ga2clip.predictions import Asked, Failure, Prediction, as_json
from ga2clip.text import printable
from ga2clip_cli import console

if TYPE_CHECKING:
    from ga2clip.evaluation.predict import TorchPredictor
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.results import ResultFile


class TextAnswers:
    """Shows each ranking as it comes."""

    def remaining(self, files: Sequence[str]) -> list[str]:
        """All files: nothing was answered before."""
        return list(files)

    def __enter__(self) -> "TextAnswers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, part: Prediction | Failure) -> None:
        """Show one answer; that a file failed is said on stderr for every kind of output."""
        if isinstance(part, Prediction):
            console.emit(ranking(part))


class JsonAnswers:
    """Collects everything and prints the object when the block ends without an error."""

    def __init__(self, model: str, provider: str, asked: Asked) -> None:
        self._model, self._provider, self._asked = model, provider, asked
        self._parts: list[Prediction | Failure] = []

    def remaining(self, files: Sequence[str]) -> list[str]:
        """All files: nothing was answered before."""
        return list(files)

    def __enter__(self) -> "JsonAnswers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            console.emit_json(as_json(self._model, self._provider, self._parts, self._asked))

    def add(self, part: Prediction | Failure) -> None:
        """Keep one answer."""
        self._parts.append(part)


def ranking(answer: Prediction) -> str:
    """The file on a line, then a line for each class with its probability."""
    lines = [f"{printable(answer.file)}  ({answer.frames} frames of {answer.duration:.1f} s)"]
    lines += [
        f"  {100 * probability:5.1f} %  {printable(label)}" for label, probability in answer.predictions
    ]
    return "\n".join(lines)


def open_sink(
    predictor: "Predictor | TorchPredictor",
    question: dict[str, Any],
    *,
    as_json: bool,
    csv: Path | None,
    jsonl: Path | None,
    resume: Path | None,
) -> "TextAnswers | JsonAnswers | ResultFile":
    """Where answers go: a file (`resume` continues one and takes the format from its suffix), JSON or text.

    question: the keywords of `predict_many`.
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
    )
    if out is None:
        return JsonAnswers(predictor.name, predictor.provider, asked)
    from ga2clip.runtime.results import ResultFile

    kind: Literal["csv", "jsonl"] | None = "csv" if csv else "jsonl" if jsonl else None
    return ResultFile(
        out,
        model=predictor.name,
        provider=predictor.provider,
        asked=asked,
        format=kind,
        resume=resume is not None,
    )


def answer_files(
    predictor: "Predictor | TorchPredictor",
    files: list[str],
    sink: "TextAnswers | JsonAnswers | ResultFile",
    **question: Any,
) -> int:
    """Rank the classes for every video in `files`, folders searched; returns how many videos failed.

    Failures are said on stderr, and at the end how many there were and where the answers are.
    """
    from ga2clip.runtime.results import ResultFile, expand

    paths = list(dict.fromkeys(str(path) for path in expand([Path(file) for file in files])))
    todo = sink.remaining(paths)
    failures = 0
    with sink:
        for answer in console.progress(predictor.predict_many(todo, **question), len(todo), "video"):
            sink.add(answer)
            if isinstance(answer, Failure):
                console.note(f"error: {printable(answer.error)}")
                failures += 1
    if isinstance(sink, ResultFile):
        kept = f", {len(paths) - len(todo)} were answered before" if len(paths) > len(todo) else ""
        console.note(
            f"{len(todo) - failures} videos answered, {failures} failed{kept}: {printable(sink.out)}"
        )
    elif failures and len(todo) > 1:
        console.note(f"{failures} of {len(todo)} videos failed")
    return failures
