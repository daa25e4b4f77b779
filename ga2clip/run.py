"""A run folder goes in, its settings, classes and tuned model come out; and the other way round.

A run holds `settings.toml`, `prompts.safetensors` (all that was tuned, and the frozen hard prompt: no untouched
backbone weight), `metrics.jsonl`, `environment.json` and `state/` (for resuming; may be deleted).
"""

import errno
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ga2clip.data.manifest import Manifest, dataset_root
from ga2clip.data.protocols import Task, make_task
from ga2clip.errors import UserError
from ga2clip.files import replacing, write_error, write_text
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import SETTINGS_FILE as SETTINGS
from ga2clip.settings import Settings

SCHEMA = 2
PROMPTS = "prompts.safetensors"
METRICS = "metrics.jsonl"
ENVIRONMENT = "environment.json"
STATE = "state"
BACKBONE = "backbone.safetensors"
"""An imported run's own backbone, where its checkpoint held a tuned one."""
HARD_PROMPT = "parts.coupling.hard"
"""The tensor (n, W) under which a run keeps the frozen hard prompt."""
_PACKAGES = ("ga2clip", "torch", "torchvision", "open_clip_torch", "numpy", "av", "pillow", "safetensors")


@dataclass(frozen=True)
class Run:
    """A finished (or at least once saved) training, as found on disk."""

    path: Path
    settings: Settings
    classes: tuple[str, ...]
    """The classes it was tuned on, in the order of its labels."""
    meta: dict[str, Any]
    """Header of `prompts.safetensors`: schema, method, backbone, licence, step, and what an importer noted."""

    def state(self) -> dict[str, Tensor]:
        """The tuned tensors by name. Errors: UserError for an unreadable file."""
        return current_names(_read_tensors(self.path / PROMPTS))

    def model(self, device: str | torch.device = "cpu") -> VideoCLIP:
        """The tuned model in evaluation mode; every tensor of the run must fit the model and the reverse.

        Errors: UserError for a backbone that cannot be had, or a run that does not fit its settings.
        """
        state = self.state()
        settings = self.settings.backbone
        if settings.pretrained == BACKBONE:
            settings = settings.model_copy(update={"pretrained": str(self.path / BACKBONE)})
        backbone = load_backbone(settings)
        model = build_model(backbone, self.settings, self.classes, state.get(HARD_PROMPT))
        if self.meta["schema"] == 1 and self.settings.method.tune == "both":
            state["backbone.logit_scale"] = backbone.logit_scale.detach()  # did not train then
        model.load_trainable_state(state, str(self.path / PROMPTS))
        return model.to(device).eval()

    def task(self, root: str = "") -> Task:
        """What it was trained and is tested on; `root` replaces a dataset folder that has moved."""
        return load_task(self.settings, root)


def load_task(settings: Settings, root: str = "") -> Task:
    """The clips and classes that the settings' protocol yields.

    Errors: UserError for a dataset that is not prepared, or that has not what the protocol needs.
    """
    manifest = Manifest.read(Path(root) if root else dataset_root(settings.data))
    return make_task(manifest, settings.data, settings.training.seed, settings.anchors)


def start_run(folder: Path, settings: Settings, note: Mapping[str, Any] | None = None) -> None:
    """Begin a run: write its settings and where it runs. Errors: UserError when the folder holds something else."""
    refuse_occupied(folder)
    write_text(folder / SETTINGS, settings.to_toml())
    write_text(folder / ENVIRONMENT, json.dumps(environment() | dict(note or {}), indent=1) + "\n")


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the run while the block runs; the system lets go when this one dies.

    Errors: UserError when another process holds it.
    """
    path = folder / STATE / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        if not _lock(file):
            raise UserError(
                f"another process is training {folder}", "wait for it or stop it, or choose another --out"
            )
        yield


def _lock(file: TextIO) -> bool:
    """False when another process has locked the file; True also where the file system knows no locks.

    These locks are the process's own: loader processes do not inherit them and can't hold them longer.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def refuse_occupied(folder: Path) -> None:
    """Errors: UserError when `folder` is a file, holds a run, or holds anything else."""
    if (folder / SETTINGS).exists():
        raise UserError(
            f"{folder} already holds a run", f"continue it with --resume {folder}, or choose another --out"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty", "choose another --out")


def save_prompts(folder: Path, model: VideoCLIP, note: Mapping[str, Any] | None = None) -> None:
    """Write what the model has learned to `folder`, atomically; `note` (JSON) goes into the header."""
    meta = {
        "schema": SCHEMA,
        "classes": list(model.classes),
        "method": model.settings.method.name,
        "backbone": model.backbone.name,
        "licence": model.backbone.licence,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.trainable_state().items()}
    header = {key: json.dumps(value) for key, value in (meta | dict(note or {})).items()}
    save_tensors(folder / PROMPTS, tensors, header)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors on the CPU as safetensors, whole or not at all. Errors: UserError, as `replacing`."""
    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, dict(header))
        except SafetensorError as error:
            raise _as_os_error(error) from error


def _as_os_error(error: SafetensorError) -> OSError:
    """What the system said, which safetensors has only in the text of its own exception."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else 0
    return OSError(number, os.strerror(number) if number else str(error))


def write_run(
    folder: Path, settings: Settings, model: VideoCLIP, note: Mapping[str, Any] | None = None
) -> Path:
    """A whole run at once, for models that were not trained here (imports, zero-shot). Returns the folder."""
    start_run(folder, settings, note)
    save_prompts(folder, model, note)
    return folder


def load_run(path: str | Path) -> Run:
    """Read a run folder. Errors: UserError for a folder that is no run, is unfinished, or is of a newer version."""
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
    meta = _read_header(path / PROMPTS)
    if meta.get("schema") not in (1, SCHEMA):
        raise UserError(
            f"{path / PROMPTS} has schema {meta.get('schema')}; this version reads 1 to {SCHEMA}",
            "update ga2clip",
        )
    classes = meta.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(
            f"{path / PROMPTS} names no classes", "the file was not written by ga2clip, or is damaged"
        )
    return Run(path, Settings.read(path / SETTINGS), tuple(classes), meta)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line cut off by a kill is left out."""
    file = path / METRICS
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def environment() -> dict[str, Any]:
    """Versions, machine and command line, for `environment.json`."""
    cuda = torch.cuda.is_available()
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if cuda
        else ["cpu"],
        "cuda": torch.version.cuda if cuda else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read_header(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}", "restore it, or train again") from None


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged: {error}", "restore it, or train again") from None


_FORMER_NAMES = {
    "prompts.text.": "parts.text_prompt.",
    "prompts.vision.": "parts.vision_prompt.",
    "prompts.coupling.": "parts.coupling.",
    "prompts.to_vision.": "parts.inter_modal.to_vision.",
    "prompts.to_text.": "parts.inter_modal.to_text.",
    "classifier": "parts.linear_probe.weight",
}
"""Tensors of runs of schema 1, by the start of their names."""


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a run under the names that they have today."""
    return {_current_name(name): value for name, value in state.items()}


def _current_name(name: str) -> str:
    for former, current in _FORMER_NAMES.items():
        if name.startswith(former):
            return current + name.removeprefix(former)
    return name


def _runs_near(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    runs: Sequence[Path] = sorted(p.parent for p in folder.glob(f"*/{SETTINGS}")) if folder.is_dir() else []
    if not runs:
        return "make one with `ga2clip train`"
    return f"runs here: {', '.join(str(run) for run in runs[:8])}"
