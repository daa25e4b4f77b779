"""One training with several seeds: a run for each, in folders side by side; what is finished is not trained again."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from ga2clip.data.lineage import training_changes
from ga2clip.data.protocols import load_task
from ga2clip.errors import UserError
from ga2clip.run import SETTINGS, another_training, is_finished, read_record, read_settings
from ga2clip.settings import Settings

_log = logging.getLogger(__name__)
_MANY = 1000


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds written as `1..5`, as `1,2,7`, or mixed, in that order.

    Raises:
        UserError: text of another form, a seed twice, or more than a thousand.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:\.\.\s*(\d{1,9})\s*)?", part, re.ASCII)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise UserError(f"'{text}' does not name seeds", "write --seeds 1..5 or --seeds 1,2,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last - first >= _MANY or len(seeds) > _MANY:
            raise UserError(f"'{text}' are more than {_MANY} seeds", "name fewer")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"'{text}' names a seed twice", "name each once")
    return tuple(seeds)


def train_seeds(
    settings: Settings, out: Path, seeds: Sequence[int], *, device: str = "auto", progress: bool = True
) -> list[Path]:
    """Train the same settings with each seed, into `out/seed-N`.

    Finished runs are left as they are and stopped ones go on, so the call can be repeated until all are done.

    Returns:
        The folders, in the order of `seeds`.

    Raises:
        UserError: a folder holds another training; otherwise as `train`. What is done stays done.
    """
    plan = [
        (out / f"seed-{seed}", settings.updated({"training": {"seed": seed}}, "--seeds")) for seed in seeds
    ]
    for folder, wanted in plan:
        refuse_another(folder, wanted)  # before the first is trained
    for folder, wanted in plan:
        train_once(wanted, folder, device=device, progress=progress)
    return [folder for folder, _ in plan]


def train_once(settings: Settings, folder: Path, *, device: str = "auto", progress: bool = True) -> None:
    """Train a run, go on with it, or find that it is done.

    Raises:
        UserError: the folder holds another training; otherwise as `train`.
    """
    # Loads torch, which the reading of a sweep's file need not wait for.
    from ga2clip.training.train import resume_settings, train

    if not (folder / SETTINGS).is_file():
        _log.info("%s: training", folder)
        train(settings, folder, device=device, progress=progress)
        return
    refuse_another(folder, settings)
    if is_finished(folder):
        _log.info("%s is finished and stays as it is", folder)
        return
    _log.info("%s was stopped and goes on", folder)
    train(resume_settings(folder), folder, resume=True, device=device, progress=progress)


def refuse_another(folder: Path, settings: Settings) -> None:
    """Raises UserError when the folder holds a run with other settings, or one of other training clips than now."""
    if not (folder / SETTINGS).is_file():
        return
    changed = another_training(settings, read_settings(folder).model_dump(mode="json"))
    if changed:
        raise UserError(
            f"{folder} holds another training: {changed} differs", "choose another --out, or remove that run"
        )
    trained = read_record(folder)
    if (
        trained is None or not trained.trained or not is_finished(folder)
    ):  # a stopped one is checked on resuming
        return
    try:
        task = load_task(settings)[1]
    except UserError:  # the run is all that is left of the data
        return
    if changed := training_changes(trained, task):
        raise UserError(
            f"the data in {task.root} is not what {folder} was trained on: {changed}",
            "choose another --out, or remove that run; or bring the dataset back as it was",
        )
