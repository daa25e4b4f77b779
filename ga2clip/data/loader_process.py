"""How loader processes live and die: with their parent, never by a signal that was meant for it.

A terminal, `kill` on a process group, systemd and Slurm send their signals to every process. A loader that dies of
one looks to the parent like a crash, and the checkpoint that the parent would have saved is lost. So a loader lets
signals pass, and ends when its parent ends it or is gone.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process, queues
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_CAN_BLOCK = hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigtimedwait")  # Linux
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Failure:
    """What a loader sends in place of a batch that it read and could not send."""

    reason: str


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Start loader processes in this block: from their first moment signals don't end them.

    The signals reach this process when the block ends.
    """
    if not _CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(_: int) -> None:
    """What a loader process does first: DataLoader's `worker_init_fn`."""
    # The queue's thread prints the error of a batch that it cannot send, and the parent would wait for ever.
    queues.Queue._on_queue_feeder_error = _send_failure  # type: ignore[attr-defined]
    if _CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
    else:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _end_with_the_parent() -> None:
    """End this process when its parent sends SIGTERM, or is gone; in the middle of a clip too."""
    parent = parent_process()
    assert parent is not None  # `begin` runs in a loader process
    while parent.is_alive():
        received = signal.sigtimedwait([signal.SIGTERM], _LOOK_SECONDS)
        if received is not None and received.si_pid == parent.pid:
            break
    os._exit(0)


def _send_failure(queue: "queues.Queue[Any]", error: Exception, item: Any) -> None:
    """Send the reason in place of the batch. item: (number of the batch, batch), or the bytes that did not go out."""
    if isinstance(item, tuple):
        queue.put((item[0], Failure(f"{type(error).__name__}: {error}")))
        return
    print(f"a loader process cannot reach its parent: {error}", file=sys.stderr)
    os._exit(1)  # which the parent notices
