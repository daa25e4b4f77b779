"""Reads a file or folder of weights as the tensors of a CLIP in OpenAI's naming.

Supported: OpenAI's archives, open_clip's files, training checkpoints and hub folders, transformers' `CLIPModel`, and
the checkpoints of GA2-CLIP's repository.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model import transformers_layout
from ga2clip.model.architecture import read_json
from ga2clip.model.weights import SUFFIXES, read_weights, refuse_not_finite

# Scalars that only OpenAI's archives have beside the weights.
_OPENAI_SCALARS = frozenset({"input_resolution", "context_length", "vocab_size"})
# A buffer that older versions of open_clip stored: it can be computed.
_MASK = "attn_mask"
# A whole number that batch normalisation has beside its weights.
_COUNTER = ".num_batches_tracked"
_INDEX = ".index.json"
_PIECE = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.\w+)")
"""How transformers names one of the files that it cuts a model into."""
# A hub folder may hold the same weights in several files; the first of these is read.
_IN_FOLDERS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "model.safetensors" + _INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + _INDEX,
)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a CLIP, or of a vision tower only.

    file: where they were read. tensors: floating point, in OpenAI's naming. origin: the program that wrote the file, if
    that implies OpenAI's architecture; else empty. transformers: whether the names were those of transformers.
    """

    file: Path
    tensors: dict[str, Tensor]
    origin: str
    transformers: bool

    @property
    def configs(self) -> list[Path]:
        """The paths at which its config may be, in order of preference."""
        usual = ["open_clip_config.json", "config.json"]
        names = [f"{self.file.stem}.json", *(reversed(usual) if self.transformers else usual)]
        return [self.file.parent / name for name in names]

    @property
    def has_text_tower(self) -> bool:
        """False for a file with a vision tower only."""
        return not all(name.startswith("visual.") or name == "logit_scale" for name in self.tensors)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file or folder of weights; nothing in it can run code.

    Raises:
        UserError: there is no weights file, there are several, or the file is one piece of several, or holds tuned
            prompts, other tensors or numbers that are not finite.
    """
    file = _file_in(Path(path).expanduser())
    _refuse_a_piece(file)
    content = _read_shards(file) if file.name.endswith(_INDEX) else read_weights(file)
    state, origin = _unwrap(content, file)
    tensors = {name.removeprefix("module."): value for name, value in state.items()}
    if tensors.keys() >= _OPENAI_SCALARS:
        origin = "OpenAI's archive"
    kept = {
        name: value
        for name, value in tensors.items()
        if name not in _OPENAI_SCALARS and name.rpartition(".")[2] != _MASK
    }
    _refuse_others(kept, file)
    renames = transformers_layout.is_transformers(kept)
    if renames:
        kept = transformers_layout.rename(kept, str(file))
    _refuse_odd_numbers(kept, file)
    refuse_not_finite(kept, file)
    return Checkpoint(file, kept, origin, renames)


def with_text_tower(vision: Checkpoint, text: Checkpoint) -> dict[str, Tensor]:
    """The tensors of the vision tower of one file (and its temperature, if it has one) with another's text tower.

    Raises:
        UserError: the first has a text tower of its own, or the second has none.
    """
    if vision.has_text_tower:
        raise UserError(f"{vision.file} has a text tower of its own", "leave out backbone.text_from")
    if not text.has_text_tower:
        raise UserError(f"{text.file} has no text tower", "backbone.text_from names a file with a whole CLIP")
    towers = {name: value for name, value in text.tensors.items() if not name.startswith("visual.")}
    return towers | vision.tensors


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if len(files) == 1:
        return files[0]
    listed = ", ".join(file.name for file in files[:8])
    raise UserError(
        f"the folder {path} holds {'several weights files' if files else 'no weights file'}",
        f"name one of them: {listed}" if files else f"looked for {', '.join(_IN_FOLDERS)}",
    )


def _refuse_a_piece(file: Path) -> None:
    piece = _PIECE.fullmatch(file.name)
    if piece and int(piece[2]) > 1 and file.is_file():
        index = file.with_name(piece[1] + piece[3] + _INDEX)
        raise UserError(
            f"{file} is one of the {int(piece[2])} files that its model was cut into",
            f"name {index if index.is_file() else f'their index, {index.name},'} or the folder of all of them",
        )


def _read_shards(index: Path) -> dict[str, Any]:
    """The tensors of a sharded checkpoint of transformers, by its `weight_map`."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise UserError(f"{index} has no weight_map")
    tensors: dict[str, Any] = {}
    for name in sorted(set(where.values())):
        if Path(name).name != name:
            raise UserError(f"{index} names a file in another folder: {name!r}")
        tensors |= read_weights(index.parent / name)
    if missing := sorted(where.keys() - tensors.keys()):
        raise UserError(f"the files of {index} lack {', '.join(missing[:6])}")
    return tensors


def _unwrap(content: Mapping[str, Any], file: Path) -> tuple[Mapping[str, Any], str]:
    """The state dict in a training script's checkpoint, and `Checkpoint.origin`."""
    for key in ("state_dict", "model_state_dict", "model"):
        state = content.get(key)
        if not isinstance(state, Mapping):
            continue
        if key == "model_state_dict" and "fusion_model_state_dict" in content:
            if content["fusion_model_state_dict"]:
                raise UserError(
                    f"{file} has a temporal header (fusion_model_state_dict), which a backbone can't have",
                    "to use its CLIP without the header, save its model_state_dict in a file of its own",
                )
            # The code that writes this container builds its model by OpenAI's own `build_model`.
            return state, "GA2-CLIP's training"
        return state, ""
    return content, ""


def _refuse_others(tensors: Mapping[str, Any], file: Path) -> None:
    if any(".VPT" in name or name.startswith("prompt_learner.") for name in tensors):
        raise UserError(
            f"{file} holds tuned prompts, not only a CLIP",
            f"`ga2clip import {file}` converts it to a run",
        )
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{file} is not a checkpoint of named tensors")


def _refuse_odd_numbers(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raises UserError for quantised, sparse or integer tensors: weights must be plain floating-point arrays."""
    for name, value in tensors.items():
        if name.endswith(_COUNTER):
            continue
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not (plain and value.is_floating_point()):
            raise UserError(f"{file}: {name} is not a plain array of floating-point numbers ({value.dtype})")
