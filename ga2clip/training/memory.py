"""Turns out-of-memory errors and crashes of loader processes into messages with the setting to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ga2clip.errors import UserError, first_line
from ga2clip.text import counted
from ga2clip.training.update import Updater


@contextmanager
def memory_errors(updater: Updater, when: str) -> Iterator[None]:
    """Raises UserError when memory runs out in the block. when: for the message, such as "in step 3"."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(updater, when) from error
    except RuntimeError as error:
        # The CPU allocator has no exception class of its own.
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _out_of_memory(updater, when) from error


@contextmanager
def loader_errors(workers: int) -> Iterator[None]:
    """Raises UserError when a loader process dies, which usually means that the system ran out of memory."""
    try:
        yield
    except RuntimeError as error:
        # torch raises a plain RuntimeError for this, at any point of the training.
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a loader process ended: {first_line(error)}",
            "the system's memory may be short: resume with --set "
            f"training.workers={workers // 2} (now {workers})",
        ) from error


def _out_of_memory(updater: Updater, when: str) -> UserError:
    settings = updater.settings
    share = settings.micro_batch or -(-settings.batch_size // updater.group.size)
    ways = [f"--set training.micro_batch={max(1, share // 2)} (now {counted(share, 'clip')})"]
    if not settings.checkpoint_blocks:
        ways.append("--set training.checkpoint_blocks=true")
    if len(updater.model.classes) > 100 and not settings.class_chunk:
        ways.append("--set training.class_chunk=50")
    return UserError(
        f"out of memory on {updater.group.device} {when}",
        "take less at a time, the update stays the same (a run that was started: with --resume): "
        + ", or ".join(ways),
    )
