"""Averages of what is tuned over the epochs of a training."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ga2clip.settings import AverageSettings


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of the states after epochs 1…E: the normal density at e, over the sum of all.

    PromptSRC (ICCV 2023), eq. 7 and 8, as its authors' code has it. mean and std are in epochs.
    """
    exponents = [-0.5 * ((epoch - mean) / std) ** 2 for epoch in range(1, epochs + 1)]
    largest = max(exponents, default=0.0)  # taken out, else all densities are 0 far from the mean
    densities = [math.exp(exponent - largest) for exponent in exponents]
    total = sum(densities)
    return [density / total for density in densities]


class EpochAverage:
    """The weighted sum of the trained parameters after each epoch; with `kind` none there is nothing in it.

    sums: the sum so far by the names of the parameters, to be stored with a checkpoint.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], settings: AverageSettings, epochs: int
    ) -> None:
        self._parameters = parameters if settings.kind != "none" else {}
        self._weights = gaussian_weights(epochs, settings.mean, settings.std) if self._parameters else []
        self.sums: dict[str, Tensor] = {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Count the parameters as they are after an epoch (0…E−1)."""
        for name, parameter in self._parameters.items():
            self.sums[name].add_(parameter.detach(), alpha=self._weights[epoch])

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model, when all epochs were counted."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.sums[name])
