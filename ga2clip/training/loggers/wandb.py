"""Weights & Biases, by its own client; `WANDB_MODE=offline` writes into the run's folder alone.

The client's environment variables count (`WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_MODE`, …); `wandb sync RUN/wandb/…`
uploads what was logged offline.
"""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.files import write_text
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

    def __init__(self, folder: Path, settings: Settings, step: int) -> None:
        wandb = _client()
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "ga2clip"),
                name=folder.name,
                id=_id(folder, step),
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
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases: {error}",
                f"`wandb login`, or set WANDB_MODE=offline; then ga2clip train --resume {folder}",
            ) from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """As `Logger`."""
        self._run.finish()


def _id(folder: Path, step: int) -> str:
    """The id of the run there: a stopped training goes on with its own, wherever its folder lies by then.

    A training from the start gets a new one, since the client would leave out steps that a run of this id has.
    """
    file = folder / "wandb" / "id"
    if step == 0 or not file.is_file():
        write_text(file, uuid.uuid4().hex[:16])
    return file.read_text(encoding="utf-8")


def _client() -> Any:
    try:
        import wandb
    except ImportError:
        raise MissingExtraError("the logger 'wandb'", "wandb") from None
    return wandb
