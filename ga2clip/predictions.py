"""`Prediction` and `Failure`, the answers of a predictor, and `Asked`, the fingerprint of a question.

The JSON shapes here are read by programs outside the project.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ga2clip.choices import ScoringRule


@dataclass(frozen=True)
class Prediction:
    """The ranking of one video. The probabilities are a softmax over all classes of the question, or one for each class
    alone by a backbone that is scored by a sigmoid.
    """

    file: str
    frames: int
    """Number of frames that were encoded."""
    duration: float
    """Seconds."""
    predictions: tuple[tuple[str, float], ...]
    """(label, probability), best first."""
    warnings: tuple[str, ...] = ()
    """The decoder's warnings, such as undecodable packets."""
    chosen: tuple[str, ...] | None = None
    """The labels that hold, best first, where several were asked for: those above their thresholds, or the set of a
    coverage. They may be more than the ranking shows."""

    def to_json(self) -> dict[str, Any]:
        """`{"file", "frames", "duration", "predictions": [{"label", "probability"}, …]}`, with `"chosen": [label, …]`
        where it was asked for and `"warnings"` if there are any.
        """
        ranking = [{"label": label, "probability": probability} for label, probability in self.predictions]
        tree = {"file": self.file, "frames": self.frames, "duration": self.duration, "predictions": ranking}
        tree |= {} if self.chosen is None else {"chosen": list(self.chosen)}
        return tree | ({"warnings": list(self.warnings)} if self.warnings else {})


@dataclass(frozen=True)
class Failure:
    """A file of a batch that could not be read, and the reason."""

    file: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """`{"file", "error"}`."""
        return {"file": self.file, "error": self.error}


@dataclass(frozen=True)
class Asked:
    """The fingerprints of a batch's model and question. Only batches with equal ones may share a results file."""

    model_sha256: str
    """`Predictor.fingerprint`."""
    classes_sha256: str
    """Of the class names in their order, with their sentences where there are some, of `reject` and of `choice`."""
    template_sha256: str
    """Of `template`, which is None for the model's own class text."""
    top: int
    """Number of classes in an answer."""

    WHAT: ClassVar[dict[str, str]] = {
        "model_sha256": "model",
        "classes_sha256": "class list",
        "template_sha256": "template",
        "top": "--top",
    }
    """The word for each fingerprint in messages."""

    @classmethod
    def of(
        cls,
        model_sha256: str,
        classes: Sequence[str] | Mapping[str, Sequence[str]],
        template: str | None,
        *,
        reject: bool,
        top: int,
        choice: object = None,
    ) -> "Asked":
        """The fingerprints of a question; the arguments are those of `Predictor.predict`."""
        described = isinstance(classes, Mapping) and any(classes.values())
        asked = list(classes.items()) if described else list(classes)  # type: ignore[union-attr]
        chosen = [] if choice is None else [repr(choice)]
        return cls(model_sha256, _sha256([asked, reject, *chosen]), _sha256(template), top)

    def to_json(self) -> dict[str, Any]:
        """`{"model_sha256", "classes_sha256", "template_sha256", "top"}`."""
        return asdict(self)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()


def rank(labels: Sequence[str], probabilities: Iterable[float], top: int) -> tuple[tuple[str, float], ...]:
    """The `top` most probable labels as (label, probability), best first; ties keep the order of `labels`."""
    pairs = [(label, float(p)) for label, p in zip(labels, probabilities, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:top])


def as_json(
    model: str,
    provider: str,
    results: Iterable[Prediction | Failure],
    asked: Asked,
    scoring: ScoringRule = "softmax",
) -> dict[str, Any]:
    """The JSON of `ga2clip predict --json`: `{"model", "provider", "results": […], "errors": […]}`, joined with
    `Asked.to_json`. Only where the probabilities are no softmax over the classes, `"scoring": "sigmoid"` says so.
    """
    parts = list(results)
    return {
        "model": model,
        "provider": provider,
        **({} if scoring == "softmax" else {"scoring": scoring}),
        **asked.to_json(),
        "results": [part.to_json() for part in parts if isinstance(part, Prediction)],
        "errors": [part.to_json() for part in parts if isinstance(part, Failure)],
    }
