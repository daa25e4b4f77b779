"""The built-in datasets as `prepare` sees them: declaration and manifest. Drawing is loaded only to generate."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ga2clip.data.declaration import Dataset, Size
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.pool import Progress
from ga2clip.data.stickfigures.sets import CLASS_SETS

if TYPE_CHECKING:
    from ga2clip.data.stickfigures.generate import GeneratedClip


def generated(name: str) -> Dataset:
    """The declaration of the built-in dataset of that name."""
    chosen = CLASS_SETS[name]
    classes = tuple(chosen.by_name)

    def generate(root: Path, seed: int, size: Size, workers: int, progress: Progress) -> Manifest:
        from ga2clip.data.stickfigures.generate import generate

        records = generate(
            root,
            dataset=name,
            seed=seed,
            train_per_class=size.train_per_class,
            test_per_class=size.test_per_class,
            irrelevant=size.irrelevant,
            workers=workers,
            progress=lambda done, total: progress("generating", done, total),
        )
        return Manifest(
            dataset=name,
            root=root,
            classes=classes,
            base_classes=tuple(action.name for action in chosen.base),
            clips=tuple(_clip(record) for record in records),
            meta={
                "rule": f"generated with seed {seed}",
                "seed": seed,
                "flip": chosen.flip,
                "test_split": "test",
                "pixels_sha256": _digest(record.pixels_sha256 for record in records),
            },
            raw_names=classes,
        )

    return Dataset(
        name=name,
        get_it="It is generated: no download.",
        generate=generate,
        flip=chosen.flip,
        classes=len(classes),
        recipe="stickfigures",
    )


def _clip(record: "GeneratedClip") -> Clip:
    """A generated clip as manifests have it."""
    return Clip(
        path=record.path,
        label=record.label,
        split=record.split,
        frames=record.frames,
        duration=record.duration,
        sha256=record.sha256,
        group=str(record.actor),
    )


def _digest(hashes: Iterable[str]) -> str:
    """One hash for the pixels of all clips before encoding: equal for equal seeds, on any machine."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
