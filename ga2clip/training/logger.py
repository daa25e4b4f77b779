"""`Logger`, where the numbers of a training go beside `metrics.jsonl`: the base class of one file per service.

A logger is a file of `ga2clip/training/loggers/`, or of an installed package (entry point group `ga2clip.loggers`),
that registers a subclass under its name; `training.logger` or `--logger` chooses it.
"""

from collections.abc import Mapping
from pathlib import Path

from ga2clip.settings import Settings


class Logger:
    """Made once for a training, in the first process. Its methods must not raise for a network that is away.

    Args:
        folder: of the run.
        settings: of the run.
        step: updates that were done before; after a resume, later ones are logged again.
    """

    @classmethod
    def check(cls) -> None:
        """Raise MissingExtraError when a package is missing; called before anything is written."""

    def __init__(self, folder: Path, settings: Settings, step: int) -> None:
        raise NotImplementedError

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the values after an update, or of an epoch (`time/…`) at its last update."""
        raise NotImplementedError

    def close(self) -> None:
        """The training ended or was stopped."""
