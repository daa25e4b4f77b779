"""Teaching a model from example clips: in memory (`Predictor.teach`) or as a new bundle (`teach`), without torch."""

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.errors import UserError, unknown_name
from ga2clip.files import file_sha256
from ga2clip.folders import new_folder
from ga2clip.labels import check_class_names, comparable
from ga2clip.runtime.arguments import video_path
from ga2clip.runtime.bundle import Bundle, open_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.card import (
    CARD,
    SCHEMA_VERSION,
    TAUGHT,
    TAUGHT_VERSION,
    TEXT_BANK,
    WIDEST_TAUGHT,
    BundleCard,
    FileEntry,
    TaughtCard,
    TaughtExample,
)
from ga2clip.runtime.model import ClipModel
from ga2clip.runtime.predictor import Encoded, Paths, Predictor
from ga2clip.runtime.scoring import NONE_LABEL, ambiguities, normalise
from ga2clip.runtime.signature import SIGNATURE, sign, signing_key
from ga2clip.runtime.teaching import Example, Examples, Head, Kind, fitted_scale

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """A clip that is to be an example: its file, the class name, and what it shows of the class."""

    path: Path
    label: str
    kind: Kind


class TaughtModel:
    """A `ClipModel` with examples: all of the given model, but for its classes and how they are scored."""

    def __init__(self, model: ClipModel, head: Head) -> None:
        self._model, self.taught = model, head
        self.classes = head.classes
        self.scale, self.threshold = _scale(model, head), head.threshold
        self.name = f"{model.name}, taught by {len(head.examples.items)} clips"
        self.fingerprint = hashlib.sha256(
            f"{model.fingerprint} {head.examples.sha256()} {head.classes}".encode()
        ).hexdigest()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

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
            shown += [Shown(Path(video_path(path)), label, kind) for path in paths]
    return shown


def _kind(label: str) -> Kind:
    return "none" if isinstance(label, str) and comparable(label) == NONE_LABEL else "class"


def taught_model(
    predictor: Predictor, shown: Sequence[Shown], *, forget: Sequence[str] = (), workers: int = 1
) -> ClipModel:
    """The predictor's model with these examples and without those of the classes in `forget`.

    Raises:
        UserError: as `Predictor.teach`; or a name in `forget` that was not taught, or nothing to do.
    """
    model = predictor.model
    head: Head | None = getattr(model, "taught", None)
    if not shown and not forget:
        raise UserError("there are no examples", "give at least one clip, or a class to forget")
    own = model.classes if head is None else head.classes[: head.own]
    before = _without(head.examples if head else None, forget, model)
    labels = _canonical(model.classes, own, shown, before)
    hashed = _hashed(labels, shown, before)
    new = _encoded(predictor, hashed, before, workers)
    examples = before + new if before.items else new
    learned = _learn(model, head, own, examples)
    for warning in ambiguities(learned.classes, learned.texts, learned.taught_names):
        _log.warning(warning)
    return TaughtModel(model, learned)


def _without(examples: Examples | None, forget: Sequence[str], model: ClipModel) -> Examples:
    if examples is None:
        if forget:
            raise UserError(f"{model.name} was not taught anything, so there is nothing to forget")
        return Examples((), np.zeros((0, model.negatives.shape[1]), np.float32))
    known = {comparable(example.label): example.label for example in examples.items}
    for name in forget:
        if comparable(name) not in known:
            raise unknown_name("taught class", name, known.values())
    gone = set(map(comparable, forget))
    return examples.keep(comparable(example.label) not in gone for example in examples.items)


def _canonical(
    classes: Sequence[str], own: Sequence[str], shown: Sequence[Shown], before: Examples
) -> dict[str, str]:
    """The class name for each label, spelled as the model's class where it has it."""
    known = {comparable(name): name for name in (*classes, NONE_LABEL)}
    labels = {clip.label: clip.label for clip in shown}
    if labels:
        check_class_names(list(labels), "examples")
    labels = {label: known.get(comparable(label), label) for label in labels}
    added = {name for clip in shown if clip.kind == "class" for name in [labels[clip.label]]}
    there = {*own, *added, *(example.label for example in before.items if example.kind == "class")}
    for clip in shown:
        if clip.kind == "not" and labels[clip.label] not in there:
            raise unknown_name("class", clip.label, there)
    check_class_names(sorted(there), "classes")
    return labels


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


def _encoded(predictor: Predictor, files: Mapping[Example, Path], before: Examples, workers: int) -> Examples:
    """The new examples with their features. Raises UserError for a class none of whose clips can be read."""
    items, features, failed = [], [], []
    results = predictor.encode_files(files.values(), workers=workers)
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
    return Head((*own, *added), texts, examples, len(own), scale, threshold)


def _scale(model: ClipModel, head: Head) -> float:
    """A sigmoid is fitted over many more pairs than a few examples make; it keeps its scale."""
    return fitted_scale(head) if getattr(model, "scoring", "softmax") == "softmax" else head.scale_before


def teach(
    bundle: str | os.PathLike[str],
    examples: "Mapping[str, Paths] | Sequence[Shown] | None" = None,
    out: str | os.PathLike[str] = "",
    *,
    against: Mapping[str, Paths] | None = None,
    forget: Sequence[str] = (),
    provider: str = "auto",
    threads: int = 0,
    workers: int = 1,
    signed_by: str | os.PathLike[str] | None = None,
    sign_with: str | os.PathLike[str] | None = None,
) -> Path:
    """Teach a bundle from example clips and write the result as a new bundle; the given one is unchanged.

    Args:
        bundle: the bundle's folder; it may have been taught before.
        examples: class name → its clips, as in `Predictor.teach`.
        out: the folder of the new bundle, which must not exist.
        against: class name → clips that look like the class but are not.
        forget: names of taught classes ("none of these" included) whose examples are dropped first. The result is what
            teaching without them would have given.
        provider, threads, signed_by: as in `Predictor`.
        workers: number of decoding threads.
        sign_with: a PEM file with the Ed25519 private key to sign the new bundle with. A signature of the given bundle
            does not hold for the new one.

    Returns:
        `out`.

    Raises:
        UserError: as `Predictor` and `Predictor.teach`; `out` exists; a name in `forget` was not taught.

    Example:
        >>> ga2clip.teach("bundle", {"juggling": ["a.mp4", "b.mp4"]}, "bundle-2")
    """
    target = Path(out)
    if not os.fspath(out):
        raise UserError("there is no folder to write to", "name a new folder with out")
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists", "choose another folder")
    if isinstance(forget, str):
        raise UserError(f"forget must be a list of class names, got the string '{forget[:60]}'")
    shown = shown_by(examples or {}, {}) if isinstance(examples, Mapping | None) else list(examples)
    shown += shown_by({}, against or {})
    key = None if sign_with is None else signing_key(Path(sign_with))
    with Predictor(bundle, provider=provider, threads=threads, signed_by=signed_by) as predictor:
        assert isinstance(predictor.model, BundleModel)
        opened = predictor.model.bundle
        model = taught_model(predictor, shown, forget=forget, workers=workers)
        assert isinstance(model, TaughtModel)
        with new_folder(target) as work:
            _write(opened, model, work)
            open_bundle(work).verify()
            if key is not None:
                sign(work, key)
    if key is None and (opened.path / SIGNATURE).exists():
        _log.warning("the given bundle is signed, the new one is not: sign it with --sign-with KEY")
    return target


def _write(bundle: Bundle, model: TaughtModel, folder: Path) -> None:
    """The files of the taught bundle. Without any example left it is the bundle before it was taught."""
    head, card = model.taught, bundle.card
    for name in card.files:
        if name not in (TEXT_BANK, TAUGHT):
            shutil.copyfile(bundle.file(name), folder / name)
    np.savez(
        folder / TEXT_BANK,
        classes=np.array(head.classes),
        features=head.texts,
        negatives=bundle.text_bank().negatives,
    )
    taught = None
    if head.examples.items:
        np.savez(folder / TAUGHT, features=head.examples.features)
        taught = TaughtCard(
            scale=model.scale,
            added=head.classes[head.own :],
            examples=tuple(
                TaughtExample(label=e.label, kind=e.kind, sha256=e.sha256) for e in head.examples.items
            ),
        )
    new = BundleCard.model_validate(
        {
            **card.model_dump(),
            "schema_version": TAUGHT_VERSION if taught else SCHEMA_VERSION,
            "classes": head.classes,
            "taught": taught,
            "files": {
                path.name: FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)
                for path in sorted(folder.iterdir())
            },
        }
    )
    (folder / CARD).write_text(new.to_text(), encoding="utf-8")


def summary(bundle: Path) -> str:
    """What a bundle was taught, in a sentence for the terminal."""
    taught = open_bundle(bundle).card.taught
    if taught is None:
        return f"{bundle}: nothing taught"
    counts = Counter(example.label for example in taught.examples)
    return (
        f"{bundle}: {len(taught.examples)} examples of {len(counts)} classes, {len(taught.added)} of them new"
    )
