"""Batches of a task's clips: frames uint8 (B, T, H, W, 3) and labels int64 (B,), seeded and divided among processes."""

import logging
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ga2clip.data.loader_process import Failure, begin, signals_held_back
from ga2clip.data.manifest import Clip, dataset_root
from ga2clip.data.pool import default_workers
from ga2clip.data.protocols import Task
from ga2clip.data.reader import ClipReader
from ga2clip.errors import UserError
from ga2clip.settings import Settings
from ga2clip.text import printable
from ga2clip.video import Preprocess, VideoError

logger = logging.getLogger(__name__)


@dataclass
class Batch:
    """Clips that are processed together.

    Attributes:
        frames: uint8 (B, T, H, W, 3); in evaluation with V > 1 views (B, V, T, H, W, 3); empty (0,) if no clip of an
            evaluation batch could be read.
        labels: int64 (B,), -1 for anchor clips, which come last.
        ids: the clips' names.
        broken: (name, reason) for clips that could not be read; they are not in the other fields.
    """

    frames: torch.Tensor
    labels: torch.Tensor
    ids: list[str]
    broken: list[tuple[str, str]] = field(default_factory=list)

    def clip_tensor(self, preprocess: Preprocess, device: torch.device | str) -> torch.Tensor:
        """The frames normalised on the device: float32 (B, T, 3, H, W), or (B, V, T, 3, H, W)."""
        pixels = self.frames.to(device, non_blocking=True).movedim(-1, -3).contiguous().float()
        mean = torch.tensor(preprocess.mean, device=device)[:, None, None]
        std = torch.tensor(preprocess.std, device=device)[:, None, None]
        return pixels.div_(255).sub_(mean).div_(std)

    def __getstate__(self) -> dict[str, Any]:
        """Convert tensors to arrays, so that a loader process sends them through a pipe.

        Tensors would be sent through shared memory, of which containers have 64 MB by default, or none.
        """
        return {**self.__dict__, "frames": self.frames.numpy(), "labels": self.labels.numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.frames, self.labels = torch.from_numpy(state["frames"]), torch.from_numpy(state["labels"])

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from which copies to a GPU don't wait."""
        return Batch(self.frames.pin_memory(), self.labels.pin_memory(), self.ids, self.broken)


@dataclass(frozen=True)
class _Sample:
    """A clip to read. seed: of its random sampling and augmentation; None in evaluation."""

    clip: Clip
    label: int
    seed: tuple[int, ...] | None


def train_batches(
    task: Task,
    settings: Settings,
    preprocess: Preprocess,
    *,
    epoch: int,
    until: int | None = None,
    rank: int = 0,
    world: int = 1,
    skip: int = 0,
) -> Iterator[Batch]:
    """Training batches of one epoch, or of the epochs from `epoch` to before `until`, for one of `world` processes.

    Every training clip occurs once per epoch. The order and all random choices depend only on
    `settings.training.seed` and the epoch. Each batch of `settings.training.batch_size` clips is divided among the
    processes; up to world - 1 clips of the last batch are dropped, so that every process has a clip. If anchors are
    switched on, `settings.anchors.per_step` anchor clips (at least one per process) follow the labelled ones, in the
    first of every `settings.anchors.every` batches, counted over all epochs. With `until`, the same loader processes
    serve all epochs and read ahead into the next. skip: batches to leave out at the beginning, for resuming.
    Raises UserError when no clip of a batch can be read.
    """
    epochs = range(epoch, epoch + 1 if until is None else until)
    plans = _Plans(
        lambda number: plan_epoch(task, settings, epoch=number, rank=rank, world=world), epochs, skip
    )
    reader = ClipReader(task.root, settings, preprocess, flip=task.flip)
    for batch in _load(plans, reader, settings.training.workers):
        if not (batch.labels >= 0).any():
            name, reason = batch.broken[0]
            raise UserError(
                f"no clip of a training batch can be read, such as {name}: {reason}", "prepare again"
            )
        yield batch


def batches_per_epoch(task: Task, settings: Settings, world: int = 1) -> int:
    """The number of batches that `train_batches` yields per epoch."""
    full, rest = divmod(len(task.train), settings.training.batch_size)
    return full + (rest >= world)


def plan_epoch(task: Task, settings: Settings, *, epoch: int, rank: int, world: int) -> list[list[_Sample]]:
    """The clips of each batch of an epoch, for one of `world` processes; no file is read."""
    seed, size = settings.training.seed, settings.training.batch_size
    if size < world:
        raise UserError(f"training.batch_size is {size}: too small for {world} processes")
    label = {name: number for number, name in enumerate(task.classes)}
    order = np.random.default_rng((seed, epoch)).permutation(len(task.train)).tolist()
    anchors = _anchor_order(task, settings, epoch)
    per_rank = -(-settings.anchors.per_step // world)
    batches: list[list[_Sample]] = []
    per_epoch, turn = batches_per_epoch(task, settings, world), 0
    for step in range(per_epoch):
        numbers = order[step * size : (step + 1) * size]
        numbers = numbers[: len(numbers) // world * world][rank::world]
        batch = [_Sample(task.train[n], label[str(task.train[n].label)], (seed, epoch, n)) for n in numbers]
        if anchors and not (epoch * per_epoch + step) % settings.anchors.every:
            for slot in range(per_rank):
                place = (turn * world + rank) * per_rank + slot
                number = anchors[place % len(anchors)]
                batch.append(_Sample(task.anchors[number], -1, (seed, epoch, len(task.train) + place)))
            turn += 1
        batches.append(batch)
    return batches


def eval_batches(
    clips: Sequence[Clip],
    classes: Sequence[str],
    settings: Settings,
    preprocess: Preprocess,
    *,
    rank: int = 0,
    world: int = 1,
    batch_size: int = 16,
) -> Iterator[Batch]:
    """Evaluation batches of this process's clips, clips[rank::world], each once and in order.

    The clips' paths are relative to `dataset_root(settings.data)`. A clip that can't be read is logged and listed in
    `Batch.broken`; it is not replaced by another one and counts as wrong.
    """
    label = {name: number for number, name in enumerate(classes)}
    share = [_Sample(clip, label[str(clip.label)], None) for clip in clips[rank::world]]
    batches = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
    yield from _load(
        batches, ClipReader(dataset_root(settings.data), settings, preprocess), settings.training.workers
    )


def _anchor_order(task: Task, settings: Settings, epoch: int) -> list[int]:
    if not settings.anchors.needs_videos:
        return []
    if not task.anchors:
        raise UserError(
            "the anchor term is switched on, but there are no anchor clips", "prepare the dataset again"
        )
    return np.random.default_rng((settings.training.seed, epoch, 1)).permutation(len(task.anchors)).tolist()


class _Clips(Dataset[Any]):
    """A torch dataset: `_Sample` → the sample with its uint8 frames, or with the reason why it can't be read."""

    def __init__(self, reader: ClipReader) -> None:
        self._reader = reader

    def __getitem__(self, sample: _Sample) -> tuple[_Sample, torch.Tensor | str]:
        try:
            if sample.seed is None:
                return sample, torch.from_numpy(self._reader.evaluation_clip(sample.clip))
            return sample, torch.from_numpy(self._reader.training_clip(sample.clip, sample.seed))
        except VideoError as error:
            return sample, error.reason


class _Plans:
    """The planned batches of several consecutive epochs; each epoch is planned when it starts."""

    def __init__(self, plan: Callable[[int], list[list[_Sample]]], epochs: range, skip: int) -> None:
        self._plan, self._epochs, self._skip = plan, epochs, skip

    def __iter__(self) -> Iterator[list[_Sample]]:
        for place, epoch in enumerate(self._epochs):
            yield from self._plan(epoch)[0 if place else self._skip :]


def _load(batches: Iterable[list[_Sample]], reader: ClipReader, workers: int) -> Iterator[Batch]:
    for batch in _started(batches, reader, min(workers, default_workers())):
        if isinstance(batch, Failure):
            raise UserError(
                f"a loader process could not send a batch: {batch.reason}",
                "use less memory, or load in the training process: --set training.workers=0",
            )
        yield batch


def _started(batches: Iterable[list[_Sample]], reader: ClipReader, workers: int) -> Iterator[Batch | Failure]:
    """The batches of a started loader; clips are read in this process if no loader process can be started."""
    loader = partial(
        DataLoader,
        _Clips(reader),
        batch_sampler=batches,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=begin,
    )
    if workers:
        try:
            _try_semaphores(6 * workers + 20)
            with signals_held_back(), warnings.catch_warnings():
                # Python 3.12 warns of every fork of a process with threads; torch's threads are harmless here.
                warnings.simplefilter("ignore", DeprecationWarning)
                return iter(loader(num_workers=workers))
        except OSError as error:
            logger.warning(
                "no loader processes can be started (%s): clips are read in this process, which is slower; "
                "in a container look at /dev/shm and the limit of processes",
                error.strerror or error,
            )
    return iter(loader(num_workers=0))


def _try_semaphores(number: int) -> None:
    """Create and drop more semaphores than DataLoader needs; DataLoader itself would print a traceback on failure.

    Raises OSError if /dev/shm, where Linux keeps them, is full or read-only.
    """
    held = [multiprocessing.Semaphore() for _ in range(number)]
    held.clear()


def _collate(items: list[tuple[_Sample, torch.Tensor | str]]) -> Batch:
    whole = [(sample, frames) for sample, frames in items if isinstance(frames, torch.Tensor)]
    broken = [(sample.clip.id, reason) for sample, reason in items if isinstance(reason, str)]
    for name, reason in broken:
        logger.warning("clip %s can't be read: %s", printable(name), reason)
    return Batch(
        frames=torch.stack([frames for _, frames in whole]) if whole else torch.empty(0, dtype=torch.uint8),
        labels=torch.tensor([sample.label for sample, _ in whole], dtype=torch.int64),
        ids=[sample.clip.id for sample, _ in whole],
        broken=broken,
    )
