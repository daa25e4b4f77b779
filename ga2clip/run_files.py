"""Reads and writes the files of a run (settings, tensors, metrics) with checksums that detect damage.

`settings.toml` begins with a line with the SHA-256 of the rest. `.safetensors` files have two SHA-256 in their header:
of the tensors and of the header. Files of earlier versions without checksums can still be read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ga2clip.errors import UserError, first_line
from ga2clip.files import replacing, write_text
from ga2clip.folders import SETTINGS_FILE as SETTINGS
from ga2clip.labels import check_class_names
from ga2clip.settings import Settings
from ga2clip.settings_reading import read_toml

if TYPE_CHECKING:  # reading what is no tensor loads no torch
    from torch import Tensor

METRICS = "metrics.jsonl"
SCHEMA = 2
"""Of the header of `prompts.safetensors`."""

_SEAL = "# Written by ga2clip train, and checked when the run is read. SHA-256 of these settings: "
_LAST_SECTION, _LAST_KEY = "training", "tensorboard"
"""The last section of every settings.toml that was written without a checksum."""
_TENSORS, _HEADER = "tensors_sha256", "header_sha256"
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
# Exceptions of safetensors, torch and json for a truncated file or an impossible header.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)


def write_settings(folder: Path, settings: Settings) -> None:
    """Write all settings of a run, with their checksum. Raises UserError as `write_text`."""
    text = settings.to_toml()
    write_text(
        folder / SETTINGS,
        f"{_SEAL}{_settings_digest(settings.model_dump(mode='json', exclude_none=True))}\n{text}",
    )


def read_settings(folder: Path) -> Settings:
    """The settings of a run.

    Raises UserError for a file that is missing, truncated, or changed since the run wrote it.
    """
    file = folder / SETTINGS
    tree = read_toml(file)
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    if first.startswith(_SEAL):
        whole = first.removeprefix(_SEAL).strip() == _settings_digest(tree)
    else:
        section = tree.get(_LAST_SECTION)
        whole = isinstance(section, dict) and _LAST_KEY in section
    if not whole:
        raise UserError(
            f"{file} is not as the run wrote it: it was cut or changed",
            f"restore it; to train with other settings: ga2clip train --recipe {file} --out DIR "
            "(check the file first)",
        )
    return Settings.from_dict(tree, str(file))


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"], header: Mapping[str, str]) -> None:
    """Write CPU tensors as safetensors with checksums, atomically. Raises UserError as `replacing`."""
    from safetensors.torch import save_file

    sealed = {**header, _TENSORS: _tensor_digest(tensors)}
    sealed[_HEADER] = _text_digest(sealed)
    with replacing(path) as temporary:
        save_file(dict(tensors), temporary, sealed)
        _put_in_order(temporary)


def _put_in_order(file: Path) -> None:
    """Sort the metadata, which safetensors writes in a random order: equal contents make equal files."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        tree = json.loads(opened.read(length))
        tree["__metadata__"] = dict(sorted(tree["__metadata__"].items()))
        text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # as long as before, unless something was escaped differently
            opened.seek(8)
            opened.write(text.ljust(length))


def read_header(file: Path) -> dict[str, str]:
    """The header of a file that `save_tensors` wrote, without the checksums; needs neither safetensors nor torch.

    Raises UserError for a damaged file.
    """
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= _LARGEST_HEADER:
                raise ValueError("its header has an impossible length")
            tree = json.loads(opened.read(length))
            end = max(
                (entry["data_offsets"][1] for key, entry in tree.items() if key != "__metadata__"), default=0
            )
            if file.stat().st_size != 8 + length + end:
                raise ValueError("it has not the length that its header says")
        return _unsealed({str(key): str(value) for key, value in tree.get("__metadata__", {}).items()})[0]
    except (*_DAMAGE, RecursionError) as error:
        raise _damaged(file, error) from None


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, "Tensor"]]:
    """Header and tensors of a file that `save_tensors` wrote. Raises UserError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            header, digest = _unsealed(dict(opened.metadata() or {}))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        if digest is not None and digest != _tensor_digest(tensors):
            raise ValueError("its tensors do not match their checksum")
        return header, tensors
    except (SafetensorError, *_DAMAGE) as error:
        raise _damaged(file, error) from None


class _Line(BaseModel):
    """A line of metrics.jsonl; it also has a key for each loss term."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float | None]

    step: int = Field(ge=1)
    epoch: int = Field(ge=1)
    lr: float
    loss: float
    accuracy: float
    grad_norm: float | None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, by rising step; an incomplete last line (after a kill) is left out.

    Raises UserError with the number of the line for a damaged file.
    """
    file = folder / METRICS
    if not file.exists():
        return []
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    metrics: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        fault = _fault(line, metrics)
        if fault:
            raise UserError(
                f"{file} is damaged in line {number}: {fault}",
                "restore it, or move it away: the run only needs it for its curves",
            )
        metrics.append(json.loads(line))
    return metrics


def _fault(line: bytes, before: list[dict[str, Any]]) -> str | None:
    """What is wrong with a line that follows the lines `before`; None if it is valid."""
    try:
        step = _Line.model_validate_json(line).step
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    if before and step <= before[-1]["step"]:
        return f"step {step} after step {before[-1]['step']}"
    missing = before[0].keys() - json.loads(line).keys() if before else set()
    return f"no {min(missing)}" if missing else None


def _settings_digest(tree: Mapping[str, Any]) -> str:
    """SHA-256 of settings, independent of the layout of the file."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def _text_digest(header: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _tensor_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _unsealed(header: dict[str, str]) -> tuple[dict[str, str], str | None]:
    """The header without checksums, and the checksum of the tensors. Raises ValueError if the header was changed."""
    seal = header.pop(_HEADER, None)
    if seal is not None and seal != _text_digest(header):
        raise ValueError("its header does not match its checksum")
    digest = header.pop(_TENSORS, None)
    return header, digest


def _damaged(file: Path, error: BaseException) -> UserError:
    return UserError(f"{file} is damaged: {first_line(error)}", "restore it, or train again")


class _Imported(BaseModel):
    """The source of an imported run."""

    model_config = ConfigDict(extra="allow", strict=True)

    checkpoint: str
    clip: str


class _Header(BaseModel):
    """The header of `prompts.safetensors`; imports and later versions may add keys."""

    model_config = ConfigDict(extra="allow", strict=True)

    classes: list[str]
    method: str
    backbone: str
    licence: str
    step: int | None = Field(None, ge=0)
    steps: int | None = Field(None, ge=0)
    finished: bool = False
    imported: _Imported | None = None
    settings: dict[str, dict[str, Any]] | None = None
    """Of the training that wrote it; None in files of earlier versions."""


def read_meta(file: Path) -> dict[str, Any]:
    """The header of a run's prompts, each value checked. Raises UserError for another file or a newer schema."""
    try:
        meta = {key: json.loads(value) for key, value in read_header(file).items()}
        if meta.get("schema") not in (1, SCHEMA):
            raise UserError(
                f"{file} has schema {meta.get('schema')}; this version reads 1 to {SCHEMA}", "update ga2clip"
            )
        check_class_names(_Header.model_validate(meta).classes, file)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{file}: '{'.'.join(map(str, first['loc']))}' in its header: {first['msg']}",
            "the file was not written by ga2clip, or is damaged",
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{file} is damaged: its header is not JSON", "restore it, or train again") from None
    return meta


_FORMER_NAMES = {
    "prompts.text.": "parts.text_prompt.",
    "prompts.vision.": "parts.vision_prompt.",
    "prompts.coupling.": "parts.coupling.",
    "prompts.to_vision.": "parts.inter_modal.to_vision.",
    "prompts.to_text.": "parts.inter_modal.to_text.",
    "classifier": "parts.linear_probe.weight",
}
"""Old → new start of the names of tensors in runs of schema 1."""


def current_names(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The tensors of a run, renamed to the current schema."""
    return {_current_name(name): value for name, value in state.items()}


def _current_name(name: str) -> str:
    for former, current in _FORMER_NAMES.items():
        if name.startswith(former):
            return current + name.removeprefix(former)
    return name
