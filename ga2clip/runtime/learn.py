"""Examples of classes as a `ClipModel`: hashed, encoded, joined with those before, and learned from."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError, unknown_name
from ga2clip.files import file_sha256
from ga2clip.labels import check_class_names, comparable, is_unicode
from ga2clip.predictions import Failure
from ga2clip.runtime.arguments import video_path
from ga2clip.runtime.card import WIDEST_TAUGHT
from ga2clip.runtime.doubts import warn_of_classes, warn_of_one
from ga2clip.runtime.model import ClipModel, Encoded
from ga2clip.runtime.scoring import NONE_LABEL, normalise
from ga2clip.runtime.taught_calibration import TaughtProbabilities
from ga2clip.runtime.teaching import Example, Examples, Head, Kind
from ga2clip.text import counted

_log = logging.getLogger(__name__)
Paths = Sequence[str | os.PathLike[str]]
Encode = Callable[[Iterable[Path]], Iterator[Encoded | Failure]]
"""As `Predictor.encode_files`."""


@dataclass(frozen=True)
class Shown:
    """A clip that is to be an example: its file, the class name, and what it shows of the class."""

    path: Path
    label: str
    kind: Kind


class TaughtModel:
    """A `ClipModel` with examples: all of the given model, but for its classes and how they are scored.

    Args:
        model: the model before.
        head: what examples teach.
        fitted: what was fitted to these examples of this model before; None: it is fitted now.
    """

    def __init__(self, model: ClipModel, head: Head, fitted: TaughtProbabilities | None = None) -> None:
        self._model = model
        self.classes = head.classes
        self.fitted = fitted or TaughtProbabilities.fit(head, model.negatives, model.scoring)
        self.taught = self.fitted.applied_to(head)
        self.scale, self.calibration = self.fitted.scale, self.fitted.calibration
        self.threshold = self.taught.threshold
        self.provider, self.preprocess, self.frames = model.provider, model.preprocess, model.frames
        self.independent_frames = model.independent_frames
        self.scoring, self.logit_bias, self.negatives = model.scoring, model.logit_bias, model.negatives
        self.name = f"{model.name}, taught by {counted(len(head.examples.items), 'clip')}"
        self.fingerprint = hashlib.sha256(
            f"{model.fingerprint} {head.examples.sha256()} {head.classes}".encode()
        ).hexdigest()

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        return self._model.encode_frames(frames)

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        return self._model.encode_clips(clips)

    def pool(self, features: np.ndarray) -> np.ndarray:
        """As `ClipModel`."""
        return self._model.pool(features)

    def encode_classes(
        self, names: Sequence[str], template: str | None, sentences: Mapping[str, Sequence[str]]
    ) -> np.ndarray:
        """As `ClipModel`."""
        return self._model.encode_classes(names, template, sentences)

    def unknown_words(self, names: Sequence[str]) -> list[str]:
        """As `ClipModel`."""
        return self._model.unknown_words(names)

    def close(self) -> None:
        """Nothing: the encoders belong to the model that was taught."""


def shown_by(examples: Mapping[str, Paths], against: Mapping[str, Paths]) -> list[Shown]:
    """Clips by class name, and clips of what only looks like a class. Raises UserError for other types."""
    shown = []
    for what, table in (("examples", examples), ("against", against)):
        if not isinstance(table, Mapping):
            raise UserError(
                f"{what} must be a mapping of class names to lists of files, got {type(table).__name__}",
                'such as {"juggling": ["a.mp4"]}',
            )
        for label, paths in table.items():
            if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
                raise UserError(
                    f"{what}: the clips of {label!r:.60} must be a list of files, got {paths!r:.60}"
                )
            kind = _kind(label) if what == "examples" else "not"
            clips = [Shown(Path(video_path(path)), label, kind) for path in paths]
            if not clips:
                raise UserError(f"{what}: there are no clips of {label!r:.60}")
            shown += clips
    return shown


def _kind(label: str) -> Kind:
    return "none" if isinstance(label, str) and comparable(label) == NONE_LABEL else "class"


def taught_model(
    model: ClipModel, encode: Encode, shown: Sequence[Shown], *, forget: Sequence[str] = ()
) -> TaughtModel:
    """The model with these examples and without those of the classes in `forget`.

    Raises:
        UserError: as `Predictor.teach`; or a name in `forget` that was not taught, or nothing to do.
    """
    head = model.taught
    if not shown and not forget:
        raise UserError("there are no examples", "give at least one clip, or a class to forget")
    own = model.classes if head is None else head.classes[: head.own]
    before = _without(head, forget, model)
    labels = _canonical(model.classes, own, shown, before)
    hashed = _hashed(labels, shown, before)
    new = _encoded(encode, hashed, before)
    examples = before + new if before.items else new
    learned = _learn(model, head, own, examples)
    unknown = model.unknown_words(learned.classes[learned.own :])
    warn_of_classes(learned.classes, learned.texts, unknown, taught=learned.taught_names)
    if len(learned.classes) == 1:
        warn_of_one(learned.classes[0])
    return TaughtModel(model, learned)


def taught_by_training(
    model: ClipModel, examples: Examples, fitted: TaughtProbabilities | None = None
) -> TaughtModel:
    """The model with the clips that it was trained on as examples, whose features it has computed before.

    fitted: as in `TaughtModel`.

    As many classes again as it knows may be asked for that have no examples, so the covariance of those that have some
    counts half: better on classes that were left out of three datasets (docs/benchmarks.md).
    """
    trained = tuple(replace(example, trained=True) for example in examples.items)
    head = _learn(model, None, model.classes, replace(examples, items=trained))
    return TaughtModel(model, replace(head, unseen=len(head.classes)), fitted)


def _without(head: Head | None, forget: Sequence[str], model: ClipModel) -> Examples:
    """The examples without what was taught of the classes in `forget`; training clips of the run stay."""
    if head is None:
        if forget:
            raise UserError(f"{model.name} was not taught anything, so there is nothing to forget")
        return Examples((), np.zeros((0, model.negatives.shape[1]), np.float32))
    items, gone = head.examples.items, set[str]()
    known = {comparable(label): label for label in {example.label for example in items}}
    taught = {example.label for example in items if not example.trained}
    for name in forget:
        label = known.get(comparable(name))
        if label is None:
            raise unknown_name("taught class", name, taught)
        if label not in taught:
            raise UserError(
                f"all that the model knows of '{label}' is from its training, and was not taught",
                "only what was taught can be forgotten; train without the class, or with --set method.teach=false",
            )
        gone.add(label)
    if unsure := sorted(gone & _unsure(head)):
        raise UserError(
            f"the bundle is of an older ga2clip, which did not note which examples of '{unsure[0]}' are training clips",
            "export the run again, and teach that bundle",
        )
    return head.examples.keep(example.trained or example.label not in gone for example in items)


def _unsure(head: Head) -> set[str]:
    """Classes whose examples may be training clips or not: a run that learned from its clips reckons with unseen
    classes, and older versions exported it without marks.
    """
    items = head.examples.items
    if not head.unseen or any(example.trained for example in items):
        return set()
    own = set(head.classes[: head.own])
    return {e.label for e in items if e.kind == "class" and e.label in own}


def _canonical(
    classes: Sequence[str], own: Sequence[str], shown: Sequence[Shown], before: Examples
) -> dict[str, str]:
    """The class name for each label, spelled as the model's class where it has it, else as the first of them."""
    spelled: dict[object, str] = {}
    for clip in shown:
        spelled.setdefault(_key(clip.label), clip.label)
    if shown:
        check_class_names([*spelled.values(), *([] if NONE_LABEL in spelled else [NONE_LABEL])], "examples")
    spelled |= {comparable(name): name for name in (*classes, NONE_LABEL)}
    labels = {clip.label: spelled[_key(clip.label)] for clip in shown}
    added = {labels[clip.label] for clip in shown if clip.kind == "class"}
    there = {*own, *added, *(example.label for example in before.items if example.kind == "class")}
    for clip in shown:
        if clip.kind == "not" and labels[clip.label] not in there:
            raise unknown_name("class", clip.label, there)
    check_class_names(sorted(there), "classes")
    return labels


def _key(label: object) -> object:
    """By which names are the same class; what is no name is refused later."""
    return comparable(label) if isinstance(label, str) and is_unicode(label) else label


def _hashed(labels: Mapping[str, str], shown: Sequence[Shown], before: Examples) -> dict[Example, Path]:
    """The file of each example that is not there yet. Raises UserError for a clip that says two things."""
    known = set(before.items)
    says = {example.sha256: example for example in before.items if example.kind != "not"}
    new: dict[Example, Path] = {}
    for clip in shown:
        try:
            example = Example(labels[clip.label], clip.kind, file_sha256(clip.path))
        except OSError as error:
            raise UserError(f"cannot read {clip.path}: {error.strerror or error}") from None
        other = says.get(example.sha256)
        if example.kind == "not" and other is not None and other.label == example.label:
            raise UserError(
                f"{clip.path} is an example of '{other.label}' and of what is not '{other.label}'"
            )
        if example.kind != "not":
            if other is not None and other.label != example.label:
                raise UserError(
                    f"{clip.path} is an example of '{other.label}' and of '{example.label}'",
                    "a clip has one class; forget the other first if that was wrong",
                )
            opposite = Example(example.label, "not", example.sha256)
            if opposite in known or opposite in new:
                raise UserError(f"{clip.path} is an example of '{example.label}' and of what is not")
            says[example.sha256] = example
        if example not in known:
            new.setdefault(example, clip.path)
    if shown and not new:
        _log.warning("all of these clips are examples already")
    return new


def _encoded(encode: Encode, files: Mapping[Example, Path], before: Examples) -> Examples:
    """The new examples with their features. Raises UserError for a class none of whose clips can be read, or if no clip
    at all can be.
    """
    items, features, failed = [], [], []
    results = encode(files.values())
    for example, result in zip(files, results, strict=True):
        if isinstance(result, Encoded):
            items.append(example)
            features.append(normalise(result.video))
        else:
            failed.append((example, result))
    readable = {(e.label, e.kind) for e in (*items, *before.items)}
    for example, failure in failed:
        if (example.label, example.kind) not in readable:
            raise UserError(f"no example of '{example.label}' can be read: {failure.error}")
    if failed and not items:
        raise UserError(f"nothing is learned, no new clip can be read: {failed[0][1].error}")
    for _, failure in failed:
        _log.warning("left out: %s", failure.error)
    if not items:
        return before.keep([False] * len(before.items))
    return Examples.sorted(items, np.stack(features))


def _learn(model: ClipModel, head: Head | None, own: Sequence[str], examples: Examples) -> Head:
    present = set(own)
    added = tuple(sorted({e.label for e in examples.items if e.kind == "class"} - present))
    known = {} if head is None else dict(zip(head.classes, head.texts, strict=True))
    missing = [name for name in (*own, *added) if name not in known]
    if missing:
        known |= dict(zip(missing, model.encode_classes(missing, None, {}), strict=True))
    texts = np.stack([known[name] for name in (*own, *added)])
    if texts.shape[1] > WIDEST_TAUGHT:
        raise UserError(f"a model whose features have more than {WIDEST_TAUGHT} numbers can't be taught")
    scale = model.scale if head is None else head.scale_before
    threshold = model.threshold if head is None else head.threshold_before
    unseen = 0 if head is None else head.unseen
    return Head((*own, *added), texts, examples, len(own), scale, threshold, unseen=unseen)
