"""Class probabilities of a video go in, a ranking comes out: the answer of both predictors, torch and ONNX.

The JSON shapes here are read by programs outside the project.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


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


def rank(labels: Sequence[str], probabilities: Iterable[float], top: int) -> tuple[tuple[str, float], ...]:
    """The `top` most probable labels, best first; equal ones keep the order of `labels`."""
    pairs = [(label, float(p)) for label, p in zip(labels, probabilities, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:top])


def as_json(model: str, provider: str, results: Iterable[Prediction | Failure]) -> dict[str, Any]:
    """What `ga2clip predict --json` prints: `{"model", "provider", "results": […], "errors": […]}`."""
    parts = list(results)
    return {
        "model": model,
        "provider": provider,
        "results": [part.to_json() for part in parts if isinstance(part, Prediction)],
        "errors": [part.to_json() for part in parts if isinstance(part, Failure)],
    }
