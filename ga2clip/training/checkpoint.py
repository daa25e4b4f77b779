"""A training's state in `state/checkpoint.safetensors`: weights, optimiser, place in the run.

One file, written atomically; nothing in it can run code. Random states are not stored: the random numbers of an update
only depend on the seed and the step, those of the loader on the seed and the epoch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Json, ValidationError
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.run import PROMPTS, SETTINGS, STATE, another_training
from ga2clip.run_files import read_tensors, save_tensors
from ga2clip.training.update import Updater

_FILE = "checkpoint.safetensors"
_MOMENTS = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}
"""The state that the supported optimisers keep for each parameter."""
_BEST = "best/"
_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Position:
    """The progress of a training. epoch: finished epochs; batch: batches done of the next one; step: all updates."""

    epoch: _Count = 0
    batch: _Count = 0
    step: _Count = 0


class _Best(BaseModel):
    """The best epoch of the validation, from 1; 0: none yet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    epoch: _Count = 0
    accuracy: FiniteFloat = 0.0
    loss: FiniteFloat = 0.0


class _Header(BaseModel):
    """The header of a checkpoint, JSON by key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    position: Json[Position]
    scaler: Json[dict[str, float]]
    settings: Json[dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """Of the training; empty in checkpoints of earlier versions."""
    best: Json[_Best] = Field(default_factory=_Best)
    """The validation; none in checkpoints of earlier versions."""


def save_checkpoint(folder: Path, updater: Updater, position: Position) -> None:
    """Write the state of a run. Raises UserError for a full disk; the previous state is then kept."""
    header = {
        "position": json.dumps(asdict(position)),
        "scaler": json.dumps(updater.scaler.state_dict()),
        "settings": json.dumps(updater.model.settings.model_dump(mode="json")),
        "best": json.dumps(updater.best.numbers()),
    }
    save_tensors(folder / STATE / _FILE, _tensors(updater), header)


def load_checkpoint(folder: Path, updater: Updater) -> Position:
    """Load the saved state into the updater and return the position; the beginning, if nothing was saved yet.

    Raises UserError for a state that is damaged, was deleted, or is of another model or training.
    """
    file = folder / STATE / _FILE
    again = f"train again with `ga2clip train --recipe {folder} --out DIR`"
    if not file.exists():
        if (folder / PROMPTS).exists():  # it would be overwritten by the first step of a new training
            raise UserError(f"{folder} was trained, but has no {STATE}/{_FILE} to go on from", again)
        return Position()
    try:
        header, tensors = read_tensors(file)
        said = _Header.model_validate(header)
        moments, sums = _moments(updater, tensors), _average(updater, tensors)
        best = _best(updater, tensors)
    except UserError as error:
        raise UserError(error.message, again) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{file} is damaged: {first['loc'][0]}: {first['msg']}", again) from None
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}", again) from None
    changed = another_training(updater.model.settings, said.settings)
    if changed:
        raise UserError(
            f"{folder / SETTINGS} is of another training than {file}: {changed} differs",
            "restore the original file",
        )
    model = {
        name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")
    }
    updater.model.load_trainable_state(model, str(file))
    updater.optimiser.state.update(moments)
    for name, value in sums.items():
        updater.average.sums[name].copy_(value)
    updater.best.restore(best, **said.best.model_dump())
    epochs = said.settings.get("training", {}).get("epochs", updater.settings.epochs)
    updater.average.extend(epochs, updater.settings.epochs)
    if updater.scaler.is_enabled() and said.scaler:
        updater.scaler.load_state_dict(said.scaler)
    return said.position


def _tensors(updater: Updater) -> dict[str, Tensor]:
    tensors = {f"model/{name}": value for name, value in updater.model.trainable_state().items()}
    for name, parameter in updater.parameters.items():
        for key, value in updater.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{name}/{key}"] = value
    tensors |= {f"average/{name}": value for name, value in updater.average.sums.items()}
    tensors |= {f"{_BEST}{name}": value for name, value in updater.best.weights.items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _best(updater: Updater, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of the best epoch. Raises ValueError where it does not fit the parameters."""
    best = {name.removeprefix(_BEST): value for name, value in tensors.items() if name.startswith(_BEST)}
    if best and {n: v.shape for n, v in best.items()} != {n: p.shape for n, p in updater.parameters.items()}:
        raise ValueError("its best state is not one of this model")
    return best


def _average(updater: Updater, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The average over the training so far, by tensor. Raises ValueError where it is not that of the settings."""
    sums = {name.removeprefix("average/"): t for name, t in tensors.items() if name.startswith("average/")}
    expected = {name: value.shape for name, value in updater.average.sums.items()}
    if {name: value.shape for name, value in sums.items()} != expected:
        raise ValueError("its average over the training is not that of the settings")
    return sums


def _moments(updater: Updater, tensors: dict[str, Tensor]) -> dict[Tensor, dict[str, Tensor]]:
    """The optimiser's state of each parameter. Raises ValueError if it does not fit the parameter."""
    moments: dict[Tensor, dict[str, Tensor]] = {}
    for name, parameter in updater.parameters.items():
        prefix = f"optimiser/{name}/"
        saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for key, value in saved.items():
            if value.shape != (() if key == "step" else parameter.shape):
                raise ValueError(f"{prefix}{key} has shape {tuple(value.shape)}")
        if saved and saved.keys() != _MOMENTS[updater.settings.optimiser]:
            raise ValueError(f"{prefix} holds {', '.join(sorted(saved))}")
        # The step counter is on the CPU, the moments beside the parameter.
        moments[parameter] = {
            key: value.clone() if key == "step" else value.to(parameter.device, torch.float32)
            for key, value in saved.items()
        }
    return moments
