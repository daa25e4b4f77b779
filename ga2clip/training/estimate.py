"""Estimates time and memory of one update by measuring one or two clips of random pixels."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ga2clip.training.update import Updater


@dataclass(frozen=True)
class Cost:
    """Of one update, without loading clips.

    seconds: in all, on average. text_seconds: for the class texts alone. bytes: memory of the process (CPU), or on one
    GPU, of an update with anchors.
    """

    seconds: float
    text_seconds: float
    bytes: int


def estimate(updater: Updater) -> Cost | None:
    """Estimate the time and memory of one update; None if nothing trains. No weight or gradient is changed.

    The text tower is counted once, the vision tower once per clip of a micro-batch. Memory that is kept for the
    backward pass is counted exactly; temporary memory of single operations is not counted.
    """
    model, settings = updater.model, updater.settings
    if not updater.parameters:
        return None
    chosen = model.settings.anchors
    anchors = chosen.per_step if chosen.needs_videos else 0
    probes = 2 if anchors else 1
    text_seconds, text_bytes = _measure(updater, 0)
    seconds, kept = _measure(updater, probes)
    clip_seconds = max(0.0, seconds - text_seconds) / probes
    clip_bytes = max(0, kept - text_bytes) // probes
    share = -(-(settings.batch_size + anchors) // updater.group.size)
    mean_share = share - anchors * (1 - 1 / chosen.every) / updater.group.size
    at_once = min(share, settings.micro_batch or share)
    trained = sum(p.numel() for p in updater.parameters.values())
    # Memory in use now, gradients and AdamW's two moments of trained parameters, and memory for the backward pass.
    memory = _in_use(updater.group.device) + 12 * trained + text_bytes + at_once * clip_bytes
    return Cost(text_seconds + mean_share * clip_seconds, text_seconds, memory)


def _measure(updater: Updater, clips: int) -> tuple[float, int]:
    """Seconds and bytes kept for the backward pass, of the second of two passes (the first warms up)."""
    model, device = updater.model, updater.group.device
    size = model.preprocess.size
    video = torch.rand(clips, model.settings.data.frames, 3, size, size, device=device)
    seconds, kept = 0.0, 0
    for _ in range(2):
        with _counting(model) as counted:
            started = time.perf_counter()
            updater.rehearse(video)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds, kept = time.perf_counter() - started, sum(counted.values())
    return seconds, kept


@contextmanager
def _counting(model: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes that autograd keeps for the backward pass while the block runs, by storage; without the model's own."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _in_use(device: torch.device) -> int:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
