"""Trainable parameters and settings go in, an AdamW with its parameter groups comes out."""

from collections.abc import Mapping

from torch import nn
from torch.optim import AdamW

from ga2clip.settings import TrainingSettings

_BACKBONE = "backbone."


def build_optimiser(parameters: Mapping[str, nn.Parameter], settings: TrainingSettings) -> AdamW:
    """AdamW over prompts (`lr`) and tuned backbone weights (`backbone_lr`), betas as the published GA2-CLIP has them.

    Each group keeps its full rate as `base_lr`, which the schedule multiplies, and the `names` of its tensors.
    """
    groups = []
    for of_backbone, lr in ((False, settings.lr), (True, settings.backbone_lr)):
        named = {name: p for name, p in parameters.items() if name.startswith(_BACKBONE) == of_backbone}
        if named or not of_backbone:  # AdamW wants at least one group, even an empty one
            groups.append({"params": list(named.values()), "names": list(named), "lr": lr, "base_lr": lr})
    return AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=settings.weight_decay)


def set_lr(optimiser: AdamW, factor: float) -> None:
    """Give every group `factor` times its full rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
