"""Averages of what is tuned over a training, and its interpolation with the start."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ga2clip.settings import AverageSettings


def state_weights(settings: AverageSettings, count: int) -> list[float]:
    """How much each of the states 1…count of a training counts in its average; the sum is 1.

    gaussian: the normal density at the state's number, PromptSRC (ICCV 2023), eq. 7 and 8, as its authors' code
    has it. uniform: stochastic weight averaging (UAI 2018), sec. 3.2, algorithm 1. exponential: decay^(count − number),
    the exponential moving average that starts at the first state instead of at the untrained model, so that
    nothing of the random start is left in a short training.
    """
    numbers = range(1, count + 1)
    if settings.kind == "gaussian":
        exponents = [-0.5 * ((n - settings.mean) / settings.std) ** 2 for n in numbers]
        largest = max(exponents, default=0.0)  # taken out, else all densities are 0 far from the mean
        relative = [math.exp(exponent - largest) for exponent in exponents]
    elif settings.kind == "exponential":
        relative = [settings.decay ** (count - n) for n in numbers]
    else:
        relative = [1.0 for _ in numbers]
    total = sum(relative)
    return [value / total for value in relative]


class StateAverage:
    """The weighted sum of the trained parameters after epochs or updates; with `kind` none there is nothing in it.

    sums: the sums by name of the parameter, stored in checkpoints.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: AverageSettings) -> None:
        self._parameters = parameters if settings.kind != "none" else {}
        self._settings = settings
        self._weights: list[float] = []
        self._extended: tuple[int, int] | None = None
        self.sums: dict[str, Tensor] = {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    @torch.no_grad()
    def after_update(self, step: int, *, per_epoch: int, epochs: int) -> None:
        """Count the parameters as they are after update `step` (from 1), where that is one of the averaged states.

        per_epoch, epochs: updates of an epoch, and epochs of the training.
        """
        every = per_epoch if self._settings.over == "epochs" else 1
        if not self._parameters or step % every:
            return
        self._reweigh(per_epoch / every)
        if not self._weights:
            self._weights = state_weights(self._settings, epochs * per_epoch // every)
        for name, parameter in self._parameters.items():
            self.sums[name].add_(parameter.detach(), alpha=self._weights[step // every - 1])

    def extend(self, before: int, after: int) -> None:
        """Let the sums of a training of `before` epochs be the beginning of those of `after` epochs."""
        self._extended = (before, after) if after > before else None

    def _reweigh(self, per_epoch: float) -> None:
        """Weigh the sums as those of the longer training. per_epoch: states of an epoch."""
        if self._extended is None:
            return
        old, new = (state_weights(self._settings, round(epochs * per_epoch)) for epochs in self._extended)
        heaviest = max(range(len(old)), key=old.__getitem__)  # all weights change by the same factor
        for value in self.sums.values():
            value.mul_(new[heaviest] / old[heaviest])
        self._extended = None

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model, when all states were counted."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.sums[name])


class BestState:
    """The parameters as they were after the epoch with the best validation.

    Attributes:
        epoch: its number, from 1; 0: none yet.
        accuracy: of its validation, a fraction.
        loss: of its validation.
        weights: values by name of the parameter.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = parameters
        self.epoch, self.accuracy, self.loss = 0, 0.0, 0.0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def offer(self, epoch: int, accuracy: float, loss: float) -> None:
        """Keep the parameters as they are if they are better: more accurate, or as accurate with a smaller loss."""
        if self.epoch and (accuracy, -loss) <= (self.accuracy, -self.loss):
            return
        self.epoch, self.accuracy, self.loss = epoch, accuracy, loss
        self.weights = {name: p.detach().clone() for name, p in self._parameters.items()}

    def numbers(self) -> dict[str, float]:
        """Epoch, accuracy and loss, as JSON."""
        return {"epoch": self.epoch, "accuracy": self.accuracy, "loss": self.loss}

    def restore(self, weights: Mapping[str, Tensor], *, epoch: int, accuracy: float, loss: float) -> None:
        """Take a state that was saved."""
        self.epoch, self.accuracy, self.loss = epoch, accuracy, loss
        self.weights = {name: value.to(self._parameters[name].device) for name, value in weights.items()}

    @torch.no_grad()
    def apply(self) -> None:
        """Put the state into the model, if there is one."""
        for name, value in self.weights.items():
            self._parameters[name].copy_(value)


class StartValues:
    """The values that parameters have now, to be mixed into the trained ones; with share 1 there is nothing in it.

    Source: WiSE-FT (CVPR 2022), sec. 3, step 2, which interpolates whole models; here what the parts train.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], share: float) -> None:
        self._parameters = parameters if share < 1 else {}
        self._share = share
        self._start = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def mix(self) -> None:
        """Put share · trained + (1 − share) · start into the model."""
        for name, parameter in self._parameters.items():
            parameter.lerp_(self._start[name].to(parameter.device), 1 - self._share)
