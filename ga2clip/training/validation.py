"""The validation of a training: accuracy and loss on clips that are not trained on, after every epoch.

The updater keeps the state of the best epoch. Test clips are never looked at.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ga2clip.compute.precision import autocast
from ga2clip.data.protocols import Task
from ga2clip.errors import UserError
from ga2clip.settings import Settings
from ga2clip.training.features import frame_features
from ga2clip.training.update import Updater

ACCURACY, LOSS = "val_accuracy", "val_loss"
"""Keys in `metrics.jsonl`, in the last line of every epoch."""


def check_validation(settings: Settings) -> None:
    """Raises UserError for settings of the validation that exclude each other, or have nothing to follow."""
    nothing = settings.method.tune == "none" or not settings.training.epochs
    if settings.data.val and nothing:
        raise UserError(
            "validation clips follow a training, and this one updates nothing: they would only be missing",
            "leave out --val (data.val)",
        )
    if not settings.training.patience:
        return
    if not settings.data.val:
        raise UserError("training.patience needs validation clips", "add --val, such as --val 0.2")
    if settings.average.kind != "none":
        raise UserError(
            "training.patience and an average over the training exclude each other: the average needs all epochs",
            "set average.kind=none, or training.patience=0",
        )


class Validation:
    """Measures the validation clips of a task."""

    def __init__(self, updater: Updater, task: Task) -> None:
        self._updater, self._task = updater, task
        self._features: dict[str, Tensor] | None = None

    @torch.no_grad()
    def measure(self, epoch: int) -> dict[str, float]:
        """Accuracy and cross-entropy after an epoch (from 1), on one view of each clip; {} without clips.

        The updater's best state is brought up to date. Every process must call this, and gets the same numbers.
        """
        if not self._task.val:
            return {}
        model = self._updater.model.eval()
        accuracy, loss = self._scores()
        model.train()
        self._updater.best.offer(epoch, accuracy, loss)
        return {ACCURACY: accuracy, LOSS: loss}

    def over(self, epochs: int) -> bool:
        """Whether the training ends after so many epochs, since no better one came for `patience` epochs."""
        patience, best = self._updater.settings.patience, self._updater.best.epoch
        return bool(patience and best) and epochs - best >= patience

    def _scores(self) -> tuple[float, float]:
        model, device, val = self._updater.model, self._updater.group.device, self._task.val
        features = self._encoded()
        clips = [clip for clip in val if clip.id in features]
        if not clips:
            raise UserError("no validation clip can be read", "prepare the dataset again")
        number = {name: index for index, name in enumerate(self._task.classes)}
        labels = torch.tensor([number[str(clip.label)] for clip in clips], device=device)
        frames = torch.stack([features[clip.id] for clip in clips]).to(device)
        with autocast(device, self._updater.dtype):
            video = model.pool(frames)
            classes = model.encode_classes(list(self._task.classes))
        logits = model.logits(video.float(), classes.float()).double()
        # A clip that can't be read counts as wrong, as in evaluation.
        accuracy = int((logits.argmax(dim=-1) == labels).sum()) / len(val)
        return accuracy, float(cross_entropy(logits, labels))

    def _encoded(self) -> dict[str, Tensor]:
        """Frame features (T, D) by clip id, computed once where the vision tower does not train."""
        if self._features is not None:
            return self._features
        model = self._updater.model
        features = frame_features(model, self._task.val, model.settings, self._updater.group)
        if not model.trains("vision"):
            self._features = features
        return features
