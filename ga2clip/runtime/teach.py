"""Teaching a bundle from example clips: the result is a new bundle. Without torch."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.folders import new_folder
from ga2clip.runtime.bundle import Bundle, open_bundle
from ga2clip.runtime.bundle_model import BundleModel
from ga2clip.runtime.card import (
    CARD,
    SCHEMA_VERSION,
    TAUGHT,
    TAUGHT_VERSION,
    TEXT_BANK,
    BundleCard,
    FileEntry,
    TaughtCard,
    TaughtExample,
)
from ga2clip.runtime.learn import Paths, Shown, TaughtModel, shown_by, taught_model
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.signature import SIGNATURE, sign, signing_key
from ga2clip.text import counted

_log = logging.getLogger(__name__)


def teach(
    bundle: str | os.PathLike[str],
    examples: Mapping[str, Paths] | Sequence[Shown] | None = None,
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
            teaching without them would have given. Training clips that the bundle was exported with stay.
        provider: as in `Predictor`.
        threads: as in `Predictor`.
        workers: number of decoding threads.
        signed_by: as in `Predictor`, of the given bundle.
        sign_with: a PEM file with the Ed25519 private key to sign the new bundle with. A signature of the given bundle
            does not hold for the new one.

    Returns:
        `out`.

    Raises:
        UserError: as `Predictor` and `Predictor.teach`; `out` exists; a name in `forget` was not taught, or its
            examples can't be told from the training clips that an older bundle was exported with.

    Example:
        >>> ga2clip.teach("bundle", {"juggling": ["a.mp4", "b.mp4"]}, "bundle-2")
    """
    target = Path(out)
    if not os.fspath(out):
        raise UserError("there is no folder to write to", "name a new folder with out")
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists", "choose another folder")
    if isinstance(forget, str) or not all(isinstance(name, str) for name in forget):
        raise UserError(f"forget must be a list of class names, got {forget!r:.60}")
    shown = shown_by(examples or {}, {}) if isinstance(examples, Mapping | None) else list(examples)
    shown += shown_by({}, against or {})
    key = None if sign_with is None else signing_key(Path(sign_with))
    with Predictor(bundle, provider=provider, threads=threads, signed_by=signed_by) as predictor:
        assert isinstance(predictor.model, BundleModel)
        opened = predictor.model.bundle
        encode = partial(predictor.encode_files, workers=workers)
        model = taught_model(predictor.model, encode, shown, forget=forget)
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
    for name in bundle.card.files:
        if name not in (TEXT_BANK, TAUGHT):
            shutil.copyfile(bundle.file(name), folder / name)
    write_examples(bundle, model, folder)


def write_examples(bundle: Bundle, model: TaughtModel, folder: Path) -> BundleCard:
    """Write text bank, examples and card, which is returned, beside the bundle's other files in `folder`."""
    head, card, negatives = model.taught, bundle.card, bundle.text_bank().negatives
    np.savez(folder / TEXT_BANK, classes=np.array(head.classes), features=head.texts, negatives=negatives)
    taught = None
    if head.examples.items:
        np.savez(folder / TAUGHT, features=head.examples.features)
        taught = TaughtCard(
            share=model.fitted.share,
            probe=model.fitted.probe,
            scale=model.scale,
            calibration=model.fitted.calibration,
            reject=model.fitted.reject,
            unseen=head.unseen,
            added=head.classes[head.own :],
            examples=tuple(
                TaughtExample(label=e.label, kind=e.kind, sha256=e.sha256, trained=e.trained)
                for e in head.examples.items
            ),
        )
    # In the order of before, so that a bundle which has forgotten all is the exported one to the byte.
    names = [name for name in dict.fromkeys((*card.files, TAUGHT)) if taught or name != TAUGHT]
    entries = {
        name: FileEntry(sha256=file_sha256(folder / name), bytes=(folder / name).stat().st_size)
        for name in names
    }
    new = BundleCard.model_validate(
        {
            **card.model_dump(),
            "schema_version": TAUGHT_VERSION if taught else SCHEMA_VERSION,
            "classes": head.classes,
            "taught": taught,
            "files": entries,
        }
    )
    (folder / CARD).write_text(new.to_text(), encoding="utf-8")
    return new


def summary(bundle: Path) -> str:
    """What a bundle was taught, in a sentence for the terminal."""
    taught = open_bundle(bundle).card.taught
    if taught is None:
        return f"{bundle}: nothing taught"
    counts = Counter(example.label for example in taught.examples)
    examples, classes = counted(len(taught.examples), "example"), counted(len(counts), "class")
    return f"{bundle}: {examples} of {classes}, {len(taught.added)} of them new"
