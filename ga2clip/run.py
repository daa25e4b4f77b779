"""The folder of a run: creating, locking, continuing and loading it.

A run holds `settings.toml`, `data.json` (the fingerprint of the data and of each clip that it was trained on),
`prompts.safetensors` (everything that was tuned, and the frozen hard prompt; no untuned backbone weights),
`metrics.jsonl`, `environment.json` and `state/` (for resuming; may be deleted). `run_files` reads and checks the single
files.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ga2clip.data.class_names import named, named_as_tuned
from ga2clip.data.lineage import Record, Seen, leaked
from ga2clip.data.manifest import FILE_NAME, Clip, Manifest, dataset_root, read_dataset
from ga2clip.environment import environment
from ga2clip.errors import UserError, first_line
from ga2clip.files import write_text
from ga2clip.lock import locked

# Exported again, so that users of runs need only this module.
from ga2clip.run_files import METRICS as METRICS
from ga2clip.run_files import SCHEMA as SCHEMA
from ga2clip.run_files import SETTINGS as SETTINGS
from ga2clip.run_files import current_names as current_names
from ga2clip.run_files import read_meta, read_tensors, save_tensors, write_settings
from ga2clip.run_files import read_metrics as read_metrics
from ga2clip.run_files import read_settings as read_settings
from ga2clip.settings import DataSettings, Settings
from ga2clip.text import counted, printable

_log = logging.getLogger(__name__)

if TYPE_CHECKING:  # loaded where a model is made: what a run says of itself is read without torch
    import torch
    from torch import Tensor

    from ga2clip.data.protocols import Task
    from ga2clip.model.video_clip import VideoCLIP
    from ga2clip.runtime.teaching import Examples

PROMPTS = "prompts.safetensors"
ENVIRONMENT = "environment.json"
DATA = "data.json"
STATE = "state"
BACKBONE = "backbone.safetensors"
"""The tuned backbone of an imported run, if the checkpoint had one."""
_EXAMPLES = "examples."
_ARRAYS = ("features", "labels", "sha256")
HARD_PROMPT = "parts.coupling.hard"
"""The tensor (n, W) under which a run keeps the frozen hard prompt."""
MAY_CHANGE = {
    "data": {"root"},
    "training": {
        "micro_batch",
        "checkpoint_blocks",
        "class_chunk",
        "compile",
        "workers",
        "checkpoint_minutes",
        "logger",
        "tensorboard",
    },
}
"""Settings by section that may change when a run is resumed, since they don't change its updates."""
_LEFTOVER = re.compile(r"\.(settings|environment|data|prompts|metrics|curves|checkpoint)\..*\.\w+")
"""Temporary files that a killed process leaves; see `files.replacing`."""


@dataclass(frozen=True)
class Run:
    """A run on disk with at least one saved checkpoint."""

    path: Path
    settings: Settings
    classes: tuple[str, ...]
    """The classes it was tuned on, in the order of its labels."""
    meta: dict[str, Any]
    """The header of `prompts.safetensors`: schema, method, backbone, licence, step, and notes of an import."""

    def state(self) -> "dict[str, Tensor]":
        """The tuned tensors by name. Raises UserError for an unreadable file."""
        return _state(read_tensors(self.path / PROMPTS)[1])

    def examples(self) -> "Examples | None":
        """The clips that `method.teach` learned from; None without it. Raises UserError for an unreadable file."""
        return self._examples(read_tensors(self.path / PROMPTS)[1])

    def _examples(self, tensors: "Mapping[str, Tensor]") -> "Examples | None":
        if not self.settings.method.teach:
            return None
        from ga2clip.runtime.teaching import Example, Examples

        try:
            features, labels, hashes = (tensors[f"{_EXAMPLES}{name}"].numpy() for name in _ARRAYS)
        except KeyError:
            raise UserError(
                f"{self.path} has not learned from its training clips yet",
                f"its training is not finished; continue with: ga2clip train --resume {self.path}",
            ) from None
        items = [
            Example(self.classes[label], "class", row.tobytes().hex())
            for label, row in zip(labels, hashes, strict=True)
        ]
        return Examples.sorted(items, features)

    def model(self, device: "str | torch.device" = "cpu") -> "VideoCLIP":
        """The tuned model in evaluation mode. The tensors of the run and the model must match exactly.

        Raises UserError if the backbone is not available, or the run does not fit its settings.
        """
        return self._model(_state(read_tensors(self.path / PROMPTS)[1]), device)

    def model_and_examples(self, device: "str | torch.device" = "cpu") -> "tuple[VideoCLIP, Examples | None]":
        """What `model` and `examples` return, of a file that is read once."""
        tensors = read_tensors(self.path / PROMPTS)[1]
        return self._model(_state(tensors), device), self._examples(tensors)

    def _model(self, state: "dict[str, Tensor]", device: "str | torch.device") -> "VideoCLIP":
        from ga2clip.model.load_backbone import load_backbone
        from ga2clip.model.video_clip import build_model

        settings = self.settings.backbone
        if settings.pretrained == BACKBONE:
            settings = settings.model_copy(update={"pretrained": str(self.path / BACKBONE)})
        backbone = load_backbone(settings)
        tuned_on = self.meta.get("conventions", backbone.conventions())
        if tuned_on != backbone.conventions():
            raise UserError(
                f"{self.path} was tuned on a backbone with {tuned_on}; {settings.pretrained} is read with "
                f"{backbone.conventions()}",
                "put back the config that stood beside those weights",
            )
        model = build_model(backbone, self.settings, self.classes, state.get(HARD_PROMPT))
        if self.meta["schema"] == 1 and self.settings.method.tune == "both":
            state["backbone.logit_scale"] = backbone.logit_scale.detach()  # did not train then
        model.load_trainable_state(state, str(self.path / PROMPTS))
        return model.to(device).eval()

    def record(self) -> Record | None:
        """What the run was trained on; None for runs of earlier versions, imports, and runs that trained nothing.

        Raises UserError for a damaged file.
        """
        return read_record(self.path)

    def refuse_trained(self, clips: Sequence[Clip]) -> None:
        """Raises UserError when the run was trained or validated on one of these test clips.

        Only a warning is logged for clips that were duplicates in training and testing from the beginning.
        """
        trained = self.record()
        if trained is None:
            return
        since, known = leaked(trained, clips)
        if since:
            raise UserError(
                f"{self.path} was trained on {len(since)} of the {counted(len(clips), 'test clip')}, such as "
                f"{printable(since[0].id)}: the dataset's splits are no longer those of the run",
                f"train again: ga2clip train --recipe {self.path} --out DIR; or bring the dataset back as it was",
            )
        if known:
            _log.warning(
                "%d of %d test clips have the same content as training clips, such as %s",
                *(len(known), len(clips), printable(known[0].id)),
            )

    @property
    def tuned(self) -> bool:
        """Whether it learned from clips here: False for zero-shot runs and imported checkpoints."""
        return bool(self.meta.get("step")) or self.settings.method.teach

    def task(self, root: str = "") -> "Task":
        """The run's training and test clips. root: the dataset's folder, if it has moved.

        Clips that a dataset which has changed since now has for training, and the run was not trained on, are left
        out. Raises UserError if no other is left.
        """
        from ga2clip.data.protocols import make_task

        settings = self.settings.updated({"data": {"root": root}} if root else {}, "the dataset's place")
        task = make_task(
            self.manifest(settings.data), settings.data, settings.training.seed, settings.anchors
        )
        trained = self.record()
        if trained is None or not trained.trained:
            return task
        used = Seen(trained.trained)
        kept = tuple(clip for clip in task.train if clip in used)
        if not kept:
            raise UserError(f"no clip that {self.path} was trained on is for training in {task.root} now")
        if len(kept) < len(task.train):
            _log.warning(
                "%d of the %d training clips in %s are none that %s was trained on, and left out",
                *(len(task.train) - len(kept), len(task.train), task.root, self.path),
            )
        return replace(task, train=kept)

    def manifest(self, data: DataSettings) -> Manifest:
        """The dataset of `data`, with the class names that the run was tuned on.

        Raises UserError for a dataset that is not prepared, or that has other classes than the run.
        """
        manifest = read_dataset(data)
        if data.labels:  # that file names the classes
            return named(manifest, data.class_names)
        return named_as_tuned(manifest, data.class_names, self.classes, sure="imported" not in self.meta)


def _state(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The tuned tensors of a run's file, which may hold examples beside them."""
    return current_names({name: t for name, t in tensors.items() if not name.startswith(_EXAMPLES)})


def start_run(
    folder: Path, settings: Settings, note: Mapping[str, Any] | None = None, data: Record | None = None
) -> None:
    """Create a run's folder with its settings, environment and record of the data.

    Raises UserError when the folder is not empty.
    """
    refuse_occupied(folder)
    if data is not None:
        write_text(folder / DATA, json.dumps(data.model_dump(), indent=1) + "\n")
    _write_beginning(folder, settings, note)


def continue_run(folder: Path, settings: Settings, note: Mapping[str, Any] | None = None) -> None:
    """Write the settings of a resumed run, and remove partial files of a killed process.

    The run must be locked. settings: of the same training; see `another_training`.
    """
    for path in [*folder.iterdir(), *(folder / STATE).iterdir()]:
        if _LEFTOVER.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
    _write_beginning(folder, settings, note)


def _write_beginning(folder: Path, settings: Settings, note: Mapping[str, Any] | None) -> None:
    write_settings(folder, settings)
    if not (folder / ENVIRONMENT).exists():
        write_text(folder / ENVIRONMENT, json.dumps(environment() | dict(note or {}), indent=1) + "\n")


def another_training(settings: Settings, before: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first setting, as `section.key`, that differs from `before` and changes the training; None if none does.

    before: a tree of settings, perhaps with fewer settings, from an earlier version.
    """
    now = settings.model_dump(mode="json")
    longer = _EXTENSION if _is_extension(now["training"], before.get("training", {})) else set()
    for section, values in before.items():
        allowed = MAY_CHANGE.get(section, set()) | (longer if section == "training" else set())
        for key in values.keys() - allowed:
            if key in now.get(section, {}) and now[section][key] != values[key]:
                return f"{section}.{key}"
    return None


_EXTENSION = {"epochs", "extended"}


def _is_extension(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a training is the one of `before`, made longer."""
    stages = [*now["extended"], now["epochs"]]
    known = [*before.get("extended", ()), before.get("epochs")]
    return len(stages) > len(known) and stages[: len(known)] == known


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Lock the run for writing while the block runs; the lock is released if this process dies.

    Raises UserError when another process holds the lock.
    """
    busy = UserError(
        f"another process is training {folder}", "wait for it or stop it, or choose another --out"
    )
    with locked(folder / STATE / "lock", busy):
        yield


def refuse_occupied(folder: Path) -> None:
    """Raises UserError when `folder` is a file, holds a run, or holds anything else."""
    if (folder / SETTINGS).exists():
        raise UserError(
            f"{folder} already holds a run", f"continue it with --resume {folder}, or choose another --out"
        )
    if folder.exists() and (
        not folder.is_dir() or not all(_LEFTOVER.fullmatch(path.name) for path in folder.iterdir())
    ):
        raise UserError(f"{folder} exists and is not empty", "choose another --out")


def save_prompts(
    folder: Path,
    model: "VideoCLIP",
    note: Mapping[str, Any] | None = None,
    examples: "Examples | None" = None,
) -> None:
    """Write the tuned tensors of a model to `folder`, atomically.

    note: a JSON object for the header. examples: of the model's classes, what `Run.examples` gives.
    """
    meta = {
        "schema": SCHEMA,
        "classes": list(model.classes),
        "method": model.settings.method.name,
        "backbone": model.backbone.name,
        "licence": model.backbone.licence,
        "conventions": model.backbone.conventions(),
        "settings": model.settings.model_dump(mode="json"),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.trainable_state().items()}
    if examples is not None:
        tensors |= _example_tensors(examples, model.classes)
    header = {key: json.dumps(value) for key, value in (meta | dict(note or {})).items()}
    save_tensors(folder / PROMPTS, tensors, header)


def _example_tensors(examples: "Examples", classes: Sequence[str]) -> "dict[str, Tensor]":
    import torch

    number = {name: index for index, name in enumerate(classes)}
    hashes = [list(bytes.fromhex(item.sha256)) for item in examples.items]
    arrays = (
        torch.from_numpy(examples.features),
        torch.tensor([number[item.label] for item in examples.items]),
        torch.tensor(hashes, dtype=torch.uint8),
    )
    return {f"{_EXAMPLES}{name}": array for name, array in zip(_ARRAYS, arrays, strict=True)}


def write_run(
    folder: Path, settings: Settings, model: "VideoCLIP", note: Mapping[str, Any] | None = None
) -> Path:
    """Write a complete run for a model that was not trained here (imports, zero-shot). Returns the folder."""
    start_run(folder, settings, note)
    save_prompts(folder, model, note)
    return folder


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a run whose training is complete. Raises as `load_run` for a damaged one."""
    if not (folder / PROMPTS).is_file():
        return False
    meta = load_run(folder).meta
    # Earlier versions did not write `finished`.
    return bool(meta.get("finished", meta.get("step") == meta.get("steps")))


def newest_run(folder: Path) -> Path:
    """The finished run below `folder`, up to three levels deep, that was written last; hidden folders are skipped.

    Raises:
        UserError: there is none.
    """
    files = [
        file
        for level in ("*", "*/*", "*/*/*")
        for file in folder.glob(f"{level}/{PROMPTS}")
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        if (file.parent / SETTINGS).is_file() and is_finished(file.parent):
            return file.parent
    raise UserError(
        f"no finished run in {folder.absolute()} or three levels below",
        "name one, or make it with `ga2clip train`",
    )


def load_run(path: str | Path) -> Run:
    """Read a run. Raises UserError if the folder is not a run, has no checkpoint, or is of a newer version."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no run at {path}", _runs_near(path))
    if not (path / SETTINGS).is_file():
        raise UserError(f"{path} is not a run: it has no {SETTINGS}", _runs_near(path))
    if not (path / PROMPTS).is_file():
        raise UserError(
            f"{path} is a run without {PROMPTS}: its training was stopped before the first checkpoint",
            "train it again into another folder",
        )
    settings, meta = located(path, read_settings(path)), read_meta(path / PROMPTS)
    changed = another_training(settings, meta.pop("settings", None) or {})
    if changed:
        raise UserError(
            f"{path / SETTINGS} is of another training than {PROMPTS} beside it: {changed} differs",
            "restore the original file",
        )
    return Run(path, settings, tuple(meta["classes"]), meta)


def read_record(folder: Path) -> Record | None:
    """See `Run.record`."""
    file = folder / DATA
    try:
        return Record.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged: {first_line(error)}", "restore it") from None


def located(folder: Path, settings: Settings) -> Settings:
    """The settings of a run with the root of its dataset where it lies now, so that any working folder will do.

    It is where the settings say; else where it lay seen from the run, if both were moved; else, for relative roots of
    earlier versions, below one of the folders above the run. If it is nowhere, the settings stay as they are.
    """
    if not (settings.data.dataset or settings.data.root):
        return settings
    root = dataset_root(settings.data)
    known = read_record(folder)
    places = [root, *([folder / known.root] if known and known.root else [])]
    if not root.is_absolute():
        places += [above / root for above in folder.absolute().parents]
    for place in places:
        if (place / FILE_NAME).is_file():
            return settings.updated({"data": {"root": os.path.abspath(place)}}, "the dataset's place")
    return settings


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The runs that folders are or hold: those that `train --seeds` puts side by side, or all those of a sweep."""
    found: list[Path] = []
    for folder in folders:
        inner = sorted(file.parent for level in ("*", "*/*") for file in folder.glob(f"{level}/{SETTINGS}"))
        found += [folder] if (folder / SETTINGS).exists() or not inner else inner
    return found


def _runs_near(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    runs: Sequence[Path] = sorted(p.parent for p in folder.glob(f"*/{SETTINGS}")) if folder.is_dir() else []
    if not runs:
        return "make one with `ga2clip train`"
    return f"runs here: {', '.join(str(run) for run in runs[:8])}"
