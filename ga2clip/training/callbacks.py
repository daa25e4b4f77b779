"""Callbacks of a training from Python: told the metrics of every epoch, they may end the training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from ga2clip.compute.distributed import Group
from ga2clip.errors import UserError

if TYPE_CHECKING:
    from ga2clip.training.loop import Tally


class Callback(Protocol):
    """What `ga2clip.train(…, callbacks=[…])` takes: any object with this method."""

    def on_epoch_end(self, metrics: Mapping[str, float]) -> bool | None:
        """Called after every epoch and its checkpoint, in the first process.

        Args:
            metrics: `epoch` (from 1), the epoch's mean `loss` and loss terms, its training `accuracy` as a fraction,
                and with validation clips `val_accuracy` and `val_loss`.

        Returns:
            True to end the training here; the run is then complete. Anything else goes on.
        """
        ...


class Callbacks:
    """The callbacks of one training, on all its processes. stopped: whether one has ended it."""

    def __init__(self, callbacks: Sequence[Callback], group: Group, *, averaged: bool) -> None:
        self._callbacks, self._group, self._averaged = callbacks, group, averaged
        self.stopped = False

    def after_epoch(self, tally: "Tally", validation: Mapping[str, float]) -> bool:
        """Tell the callbacks; whether the training ends. Every process must call this, and gets the same answer.

        Raises UserError when it would end a training whose average needs all epochs.
        """
        metrics = {"epoch": float(tally.epoch + 1), **{name: tally.mean(name) for name in tally.sums}}
        metrics |= {"accuracy": tally.correct / max(1, tally.labelled), **validation}
        # All of them are told, also behind one that wants to stop.
        wishes = [c.on_epoch_end(metrics) is True for c in self._callbacks] if self._group.is_first else []
        wish = torch.tensor([int(any(wishes))], device=self._group.device)
        self.stopped = bool(self._group.sum(wish).item())
        if self.stopped and self._averaged:
            raise UserError(
                "a callback ended the training, and its average needs all epochs",
                "set average.kind=none",
            )
        return self.stopped
