"""TensorBoard events in `RUN/tensorboard`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ga2clip.errors import MissingExtraError
from ga2clip.registry import LOGGERS
from ga2clip.settings import Settings
from ga2clip.training.logger import Logger


@LOGGERS.register("tensorboard")
class TensorBoard(Logger):
    """Scalars; `tensorboard --logdir runs` shows them."""

    @classmethod
    def check(cls) -> None:
        """Raises MissingExtraError when TensorBoard is not installed."""
        _writer_class()

    def __init__(self, folder: Path, settings: Settings, step: int) -> None:  # noqa: ARG002
        self._events = _writer_class()(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger`."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """As `Logger`."""
        self._events.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("the logger 'tensorboard'", "tensorboard") from None
    return SummaryWriter
