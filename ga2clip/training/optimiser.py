"""The optimiser of a training and its parameter groups."""

from collections.abc import Mapping

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ga2clip.model.part import LearningRate
from ga2clip.settings import TrainingSettings


def build_optimiser(
    groups: Mapping[LearningRate, Mapping[str, nn.Parameter]], settings: TrainingSettings
) -> Optimizer:
    """AdamW or SGD over the parts (`lr`) and tuned backbone weights (`backbone_lr`).

    Each group keeps its full rate as `base_lr`, which the schedule multiplies.
    """
    rates: dict[LearningRate, float] = {"parts": settings.lr, "backbone": settings.backbone_lr}
    tables = [
        {"params": list(groups[kind].values()), "lr": rate, "base_lr": rate}
        for kind, rate in rates.items()
        if groups[kind] or kind == "parts"  # an optimiser needs at least one group, even an empty one
    ]
    if settings.optimiser == "sgd":
        return SGD(tables, momentum=settings.momentum, weight_decay=settings.weight_decay)
    return AdamW(tables, betas=settings.betas, eps=1e-8, weight_decay=settings.weight_decay)


def set_lr(optimiser: Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its full rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
