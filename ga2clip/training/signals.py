"""SIGTERM and Ctrl-C set a flag, which the loop reads between two updates."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ga2clip.errors import UserError


class StoppedError(UserError):
    """The training was stopped by a signal after saving a checkpoint. exit_code: 128 + the signal's number."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


class StopFlag:
    """Set by the first signal; a second Ctrl-C stops at once, unsaved."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catch SIGTERM and SIGINT while the block runs. Outside the main thread nothing is caught."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag._receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
