"""Start-up and end of loader processes: they ignore signals that are meant for the parent, and end with the parent.

A terminal, `kill` on a process group, systemd and Slurm send signals to every process. If a loader died of one, the
parent would see a crash instead of saving its checkpoint. So loaders ignore these signals, and end when the parent
ends them or has gone.
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
    """Sent by a loader process instead of a batch that it could not send."""

    reason: str


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Block signals while loader processes are started, so that signals can't end them from their first moment.

    Signals that arrive meanwhile reach this process when the block ends.
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
    """DataLoader's `worker_init_fn`, which each loader process calls first."""
    # By default the queue's thread only prints the error of a batch that it cannot send; the parent would wait forever.
    queues.Queue._on_queue_feeder_error = _send_failure  # type: ignore[attr-defined]
    if _CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
    else:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _end_with_the_parent() -> None:
    """End this process when its parent sends SIGTERM or has gone, even in the middle of a clip."""
    parent = parent_process()
    assert parent is not None  # `begin` runs in a loader process
    while parent.is_alive():
        received = signal.sigtimedwait([signal.SIGTERM], _LOOK_SECONDS)
        if received is not None and received.si_pid == parent.pid:
            break
    os._exit(0)


def _send_failure(queue: "queues.Queue[Any]", error: Exception, item: Any) -> None:
    """Send a `Failure` instead of the batch. item: (number of the batch, batch), or the bytes that were not sent."""
    if isinstance(item, tuple):
        queue.put((item[0], Failure(f"{type(error).__name__}: {error}")))
        return
    print(f"a loader process cannot reach its parent: {error}", file=sys.stderr)
    os._exit(1)  # which the parent notices
