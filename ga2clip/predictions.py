"""`Prediction` and `Failure`, the answers of a predictor, and `Asked`, the fingerprint of a question.

The JSON shapes here are read by programs outside the project.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """Of the class names in their order, their sentences and `reject`."""
    template_sha256: str
    """Of `template`, which is None for the model's own class text."""
    top: int
    """Number of classes in an answer."""
    choice: str = ""
    """How labels are chosen, as `MultiLabel.asked` and `Coverage.asked` say it; empty: they are not."""
    explain: bool = False
    """Whether the answers say which frames carried them."""
    other_reject_sha256: str = ""
    """`classes_sha256` with the other `reject`, to name what differs."""

    ALWAYS: ClassVar[tuple[str, ...]] = ("model_sha256", "classes_sha256", "template_sha256", "top")
    """The members that every JSON has."""
    WHERE_ASKED: ClassVar[tuple[str, ...]] = ("choice", "explain")
    """The members that it has where they were asked for."""

    @classmethod
    def of(
        cls,
        model_sha256: str,
        classes: Sequence[str] | Mapping[str, Sequence[str]],
        template: str | None,
        *,
        reject: bool,
        top: int,
        choice: str = "",
        explain: bool = False,
    ) -> "Asked":
        """The fingerprints of a question; the arguments are those of `Predictor.predict`, but for `choice`, which is as
        it says itself (`asked`).
        """
        described = isinstance(classes, Mapping) and any(classes.values())
        asked = list(classes.items()) if described else list(classes)  # type: ignore[union-attr]
        one, other = _sha256([asked, reject]), _sha256([asked, not reject])
        return cls(model_sha256, one, _sha256(template), top, choice, explain, other)

    def to_json(self) -> dict[str, Any]:
        """`{"model_sha256", "classes_sha256", "template_sha256", "top"}`, with `"choice"` and `"explain"` where they
        were asked for.
        """
        tree = {key: getattr(self, key) for key in (*self.ALWAYS, *self.WHERE_ASKED)}
        return {key: value for key, value in tree.items() if key in self.ALWAYS or value}

    def differs(self, record: Mapping[str, Any]) -> str | None:
        """The first part of the question that differs from the one of a record (`to_json`), in words; None: none."""
        classes, before = record.get("classes_sha256"), str(record.get("choice", ""))
        parts = (
            ("model", record.get("model_sha256") != self.model_sha256),
            (f"use of {_option(before or self.choice)}", before != self.choice),
            ("use of --explain", record.get("explain", False) != self.explain),
            ("use of --reject", bool(classes) and classes == self.other_reject_sha256),
            ("class list", classes != self.classes_sha256),
            ("template", record.get("template_sha256") != self.template_sha256),
            ("--top", record.get("top") != self.top),
        )
        return next((what for what, differs in parts if differs), None)


def _option(choice: str) -> str:
    """The option that makes a choice: `coverage 0.9`, `multi-label`, `multi-label, threshold 0.4` …"""
    return "--threshold" if "," in choice else f"--{choice.partition(' ')[0]}"


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
