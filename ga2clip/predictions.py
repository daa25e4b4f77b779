"""Rankings of class names, the answers of every predictor, and what was asked.

The JSON shapes here are read by programs outside the project.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Prediction:
    """The ranking of one file; probabilities are a softmax over all classes asked about."""

    file: str
    frames: int
    """Frames that were encoded."""
    duration: float
    """Seconds."""
    predictions: tuple[tuple[str, float], ...]
    """(label, probability), best first."""
    warnings: tuple[str, ...] = ()
    """What the decoder had to do without, such as undecodable packets."""

    def to_json(self) -> dict[str, Any]:
        """`{"file", "frames", "duration", "predictions": [{"label", "probability"}, …]}`, warnings too."""
        ranking = [{"label": label, "probability": probability} for label, probability in self.predictions]
        found = {"file": self.file, "frames": self.frames, "duration": self.duration, "predictions": ranking}
        return found | ({"warnings": list(self.warnings)} if self.warnings else {})


@dataclass(frozen=True)
class Failure:
    """A file of a batch that gave no prediction, and why; the rest of the batch goes on."""

    file: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """`{"file", "error"}`."""
        return {"file": self.file, "error": self.error}


@dataclass(frozen=True)
class Asked:
    """What the answers of a batch answer, as fingerprints: two batches with equal ones may stand in one file."""

    model_sha256: str
    """The model: what `fingerprint` of a predictor says."""
    classes_sha256: str
    """The classes in their order, and whether "none of these" was allowed."""
    template_sha256: str
    """The sentence around class names; that of no sentence when it was the model's own."""
    top: int
    """How many classes are listed."""

    WHAT: ClassVar[dict[str, str]] = {
        "model_sha256": "model",
        "classes_sha256": "class list",
        "template_sha256": "template",
        "top": "--top",
    }
    """What people call each."""

    @classmethod
    def of(
        cls, model_sha256: str, classes: Sequence[str], template: str | None, *, reject: bool, top: int
    ) -> "Asked":
        """The fingerprints of a question; arguments as `predict` of a predictor has them."""
        return cls(model_sha256, _sha256([list(classes), reject]), _sha256(template), top)

    def to_json(self) -> dict[str, Any]:
        """`{"model_sha256", "classes_sha256", "template_sha256", "top"}`."""
        return asdict(self)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()


def rank(labels: Sequence[str], probabilities: Iterable[float], top: int) -> tuple[tuple[str, float], ...]:
    """The `top` most probable labels, best first; equal ones keep the order of `labels`."""
    pairs = [(label, float(p)) for label, p in zip(labels, probabilities, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:top])


def as_json(
    model: str, provider: str, results: Iterable[Prediction | Failure], asked: Asked
) -> dict[str, Any]:
    """What `ga2clip predict --json` prints: `{"model", "provider", "results": […], "errors": […]}`, and `asked`
    as keys `…_sha256` and `top`."""
    parts = list(results)
    return {
        "model": model,
        "provider": provider,
        **asked.to_json(),
        "results": [part.to_json() for part in parts if isinstance(part, Prediction)],
        "errors": [part.to_json() for part in parts if isinstance(part, Failure)],
    }
