"""The folder of a measurement below `RUN/eval`: what differs from the run's own settings gets a folder of its own."""

import hashlib
import json
import os
from pathlib import Path

from ga2clip.data.class_names import RAW, READABLE
from ga2clip.data.manifest import dataset_root
from ga2clip.files import file_sha256
from ga2clip.run import Run
from ga2clip.settings import Settings


def measurement_folder(run: Run, settings: Settings, *, elsewhere: bool = False) -> str:
    """The name below `RUN/eval` of what is measured, with `{protocol}` in it: other views and names get their own.

    settings: those of the measurement; the run's own where nothing else was asked for. elsewhere: whether the data is
    another one of the same name, as two class folders are; its folder then has a place of its own, too.
    """
    data = settings.data
    views = (data.test_clips, data.test_crops)
    place = [_place_label(dataset_root(data))] if elsewhere else []
    parts = [data.dataset or "dataset", *place, "{protocol}"]
    parts += [f"{views[0]}x{views[1]}"] if views != (1, 1) else []
    own = run.settings.data.class_names if data.dataset == run.settings.data.dataset else READABLE
    if data.class_names != own:
        parts.append(_names_label(data.class_names))
    if settings.descriptions != run.settings.descriptions:
        digest = hashlib.sha256(json.dumps(settings.descriptions).encode()).hexdigest()
        parts.append(f"descriptions-{digest[:8]}")
    return "-".join(parts)


def _place_label(root: Path) -> str:
    """The name of a folder, and a digest of its path, since two folders may share a name."""
    path = root.absolute()
    return f"{_safe(path.name)}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def _safe(name: str) -> str:
    """A name as part of a file's name; braces, which `{protocol}` has, are left out as well."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)[:40]


def _names_label(class_names: str) -> str:
    """`raw` or `readable`; for a file its name, and a digest of its content, since two files may share a name."""
    if class_names in (READABLE, RAW):
        return class_names
    file = Path(class_names)
    return f"{_safe(file.stem)}-{file_sha256(file)[:8]}"
