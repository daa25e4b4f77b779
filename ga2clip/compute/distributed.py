"""The processes of one job, as torchrun starts them, and their devices. A single process is a group of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ga2clip.choices import check_device
from ga2clip.errors import UserError


@dataclass(frozen=True)
class Group:
    """The processes that work on one job, seen from one of them."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True in the process that writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The element-wise sum over all processes; the tensor itself when there is one."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of ranks; the same list in every process."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            dist.barrier()


def is_first_process() -> bool:
    """Whether this is the first process that torchrun started, or the only one. Works before `join_group`."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def join_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes that torchrun started; without torchrun, a group of one.

    device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. CPUs communicate by Gloo, GPUs by NCCL.
    Raises UserError for a device that is not available.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")) if size > 1 else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1 or dist.is_initialized():
        yield (
            Group(chosen, dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group(chosen)
        )
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(chosen, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def choose_device(device: str = "auto", local_rank: int | None = None) -> torch.device:
    """A device by name; `local_rank` picks the GPU of a process that torchrun started.

    Raises UserError for an unknown device or one that this machine lacks.
    """
    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cpu":
        return chosen
    count = torch.cuda.device_count()
    index = chosen.index if chosen.index is not None else (local_rank or 0)
    if index >= count:
        raise UserError(
            f"no GPU {index}: this machine shows {count}", "take --device cpu, or fewer processes"
        )
    return torch.device("cuda", index)
