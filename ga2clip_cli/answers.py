"""A predictor and files go in; rankings as text, as one JSON object or in a CSV or JSONL file come out."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ga2clip.predictions import Failure, Prediction, as_json
from ga2clip_cli import console

if TYPE_CHECKING:
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.results import ResultFile


class TextAnswers:
    """Shows each ranking as it comes; failures go to stderr."""

    done: frozenset[str] = frozenset()

    def __enter__(self) -> "TextAnswers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, part: Prediction | Failure) -> None:
        """Show one answer."""
        if isinstance(part, Failure):
            console.note(f"error: {part.error}")
        else:
            console.emit(ranking(part))


class JsonAnswers:
    """Collects everything and prints the object when the block ends without an error."""

    done: frozenset[str] = frozenset()

    def __init__(self, model: str, provider: str) -> None:
        self._model, self._provider = model, provider
        self._parts: list[Prediction | Failure] = []

    def __enter__(self) -> "JsonAnswers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            console.emit_json(as_json(self._model, self._provider, self._parts))

    def add(self, part: Prediction | Failure) -> None:
        """Keep one answer."""
        self._parts.append(part)


def ranking(answer: Prediction) -> str:
    """The file on a line, then a line for each class with its probability."""
    file = console.one_line(answer.file)
    lines = [f"{file}  ({answer.frames} frames of {answer.duration:.1f} s)"]
    lines += [
        f"  {100 * probability:5.1f} %  {console.one_line(label)}"
        for label, probability in answer.predictions
    ]
    return "\n".join(lines)


def open_sink(
    predictor: "Predictor",
    *,
    as_json: bool,
    csv: Path | None,
    jsonl: Path | None,
    resume: Path | None,
) -> "TextAnswers | JsonAnswers | ResultFile":
    """Where answers go: a file (`resume` continues one and takes the format from its suffix), JSON or text."""
    out = csv or jsonl or resume
    if out is not None:
        from ga2clip.runtime.results import ResultFile

        kind: Literal["csv", "jsonl"] | None = "csv" if csv else "jsonl" if jsonl else None
        return ResultFile(
            out, model=predictor.name, provider=predictor.provider, format=kind, resume=resume is not None
        )
    return JsonAnswers(predictor.name, predictor.provider) if as_json else TextAnswers()


def answer_files(
    predictor: "Predictor",
    files: list[str],
    sink: "TextAnswers | JsonAnswers | ResultFile",
    **question: Any,
) -> int:
    """Rank the classes for every video in `files`, folders searched; returns how many videos failed."""
    from ga2clip.runtime.results import expand

    failures = 0
    with sink:
        todo = [path for path in expand([Path(file) for file in files]) if str(path) not in sink.done]
        for answer in console.progress(predictor.predict_many(todo, **question), len(todo), "video"):
            sink.add(answer)
            failures += isinstance(answer, Failure)
    return failures
