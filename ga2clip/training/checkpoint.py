"""A training's state goes to `state/checkpoint.safetensors` and comes back: weights, optimiser, place in the run.

One file, written whole or not at all; nothing in it can run code. Random states need no place in it: the random
numbers of an update depend on the seed and the step alone, those of the loader on the seed and the epoch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.run import PROMPTS, STATE, save_tensors
from ga2clip.training.update import Updater

_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Position:
    """How far a training has come. epoch: finished epochs; batch: batches of the next one; step: updates in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


def save_checkpoint(folder: Path, updater: Updater, position: Position) -> None:
    """Write the state of a run. Errors: UserError for a full disk; the previous state is then still whole."""
    header = {"position": json.dumps(asdict(position)), "scaler": json.dumps(updater.scaler.state_dict())}
    save_tensors(folder / STATE / _FILE, _tensors(updater), header)


def load_checkpoint(folder: Path, updater: Updater) -> Position:
    """Put the saved state into the updater and return the place in the run; one that never saved starts anew.

    Errors: UserError for a state that is damaged, was deleted, or is of another model.
    """
    file = folder / STATE / _FILE
    again = f"train again with `ga2clip train --recipe {folder} --out DIR`"
    if not file.exists():
        if (folder / PROMPTS).exists():  # it would be overwritten by the first step of a new training
            raise UserError(f"{folder} was trained, but has no {STATE}/{_FILE} to go on from", again)
        return Position()
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        position = Position(**json.loads(header["position"]))
        scaler = json.loads(header["scaler"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}", again) from None
    model = {
        name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")
    }
    updater.model.load_trainable_state(model, str(file))
    _load_optimiser(updater, tensors)
    _load_average(updater, tensors, str(file))
    if updater.scaler.is_enabled():
        updater.scaler.load_state_dict(scaler)
    return position


def _tensors(updater: Updater) -> dict[str, Tensor]:
    tensors = {f"model/{name}": value for name, value in updater.model.trainable_state().items()}
    for name, parameter in updater.parameters.items():
        for key, value in updater.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{name}/{key}"] = value
    tensors |= {f"average/{name}": value for name, value in updater.average.sums.items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _load_average(updater: Updater, tensors: dict[str, Tensor], source: str) -> None:
    sums = updater.average.sums
    saved = {name.removeprefix("average/"): t for name, t in tensors.items() if name.startswith("average/")}
    if saved.keys() != sums.keys():
        raise UserError(f"{source} has another average over epochs than the settings", "change nothing there")
    for name, value in saved.items():
        sums[name].copy_(value)


def _load_optimiser(updater: Updater, tensors: dict[str, Tensor]) -> None:
    for name, parameter in updater.parameters.items():
        prefix = f"optimiser/{name}/"
        saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        # AdamW keeps its step counter on the CPU and the moments beside the parameter.
        updater.optimiser.state[parameter] = {
            key: value.clone() if key == "step" else value.to(parameter.device, torch.float32)
            for key, value in saved.items()
        }
