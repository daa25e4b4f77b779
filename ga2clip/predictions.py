"""`Prediction` and `Failure`, the answers of a predictor, and `Asked`, the fingerprint of a question.

The JSON shapes here are read by programs outside the project.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ga2clip.choices import ScoringRule

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ClassExplanation:
    """What the T frames of a video have to do with the score of one label."""

    label: str
    score: float
    """A cosine, or what examples made of it; times the model's scale it is the logit."""
    rest: float
    """The part of the score that no frame carries: of taught classes, and of "none of these"."""
    contributions: tuple[float, ...]
    """One for each frame; together with `rest` they are the score."""
    weights: tuple[float, ...]
    """The share of each frame in what speaks for the label: 0 or more, with the sum 1; all 0 where nothing does."""


@dataclass(frozen=True)
class Explanation:
    """Which frames of a video carried its answer; `ga2clip/runtime/explain.py` says how that is found."""

    rule: Literal["exact", "approximation"]
    """`exact`: the contributions are the terms of the score, as with the mean of the frames. `approximation`: as with
    temporal pooling."""
    times: tuple[float, ...]
    """Seconds at which the frames are shown; numbers from 0 for frames in memory."""
    classes: tuple[ClassExplanation, ...]
    """Of the labels of the ranking, best first."""
    frames: "np.ndarray | None" = field(default=None, repr=False, compare=False)
    """uint8 (T, S, S, 3), RGB, as the model sees them."""

    def to_json(self) -> dict[str, Any]:
        """`{"rule", "times": […], "classes": […]}`, of every class a dict of the members of `ClassExplanation`."""
        return {
            "rule": self.rule,
            "times": list(self.times),
            "classes": [
                {**vars(part), "contributions": list(part.contributions), "weights": list(part.weights)}
                for part in self.classes
            ],
        }


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
    explanation: Explanation | None = None
    """Which frames carried the answer, where it was asked for."""

    def to_json(self) -> dict[str, Any]:
        """`{"file", "frames", "duration", "predictions": [{"label", "probability"}, …]}`, with `"chosen": [label, …]`
        and `"explanation"` (`Explanation.to_json`) where they were asked for and `"warnings"` if there are any.
        """
        ranking = [{"label": label, "probability": probability} for label, probability in self.predictions]
        tree = {"file": self.file, "frames": self.frames, "duration": self.duration, "predictions": ranking}
        tree |= {} if self.chosen is None else {"chosen": list(self.chosen)}
        tree |= {} if self.explanation is None else {"explanation": self.explanation.to_json()}
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
    """Of the class names in their order, their sentences, `reject`, `choice` and `explain`."""
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
        explain: bool = False,
    ) -> "Asked":
        """The fingerprints of a question; the arguments are those of `Predictor.predict`."""
        described = isinstance(classes, Mapping) and any(classes.values())
        asked = list(classes.items()) if described else list(classes)  # type: ignore[union-attr]
        more = [*([] if choice is None else [repr(choice)]), *(["explain"] if explain else [])]
        return cls(model_sha256, _sha256([asked, reject, *more]), _sha256(template), top)

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
