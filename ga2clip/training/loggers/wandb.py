"""Weights & Biases, by its own client; `WANDB_MODE=offline` writes into the run's folder alone.

The client's environment variables count (`WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_MODE`, …); `wandb sync RUN/wandb/…`
uploads what was logged offline.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ga2clip.errors import MissingExtraError
from ga2clip.registry import LOGGERS
from ga2clip.settings import Settings
from ga2clip.training.logger import Logger


@LOGGERS.register("wandb")
class WeightsAndBiases(Logger):
    """A run of the project `ga2clip`, with the settings as its config. Only numbers and settings are sent."""

    @classmethod
    def check(cls) -> None:
        """Raises MissingExtraError when wandb is not installed."""
        _client()

    def __init__(self, folder: Path, settings: Settings, step: int) -> None:  # noqa: ARG002
        wandb = _client()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ga2clip"),
            name=folder.name,
            # The same folder goes on with the same run after a stop.
            id=hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            config=settings.model_dump(mode="json"),
            # Nothing of the machine, the console, the code or the repository.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """As `Logger`."""
        self._run.finish()


def _client() -> Any:
    try:
        import wandb
    except ImportError:
        raise MissingExtraError("the logger 'wandb'", "wandb") from None
    return wandb
