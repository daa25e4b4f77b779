"""The factor of the learning rate (0…1) at each update."""

import math
from dataclasses import dataclass

from ga2clip.settings import Schedule


@dataclass(frozen=True)
class Rate:
    """How the learning rate goes over a training.

    total, warmup: updates. per_epoch: updates of an epoch. floor: share of the rate at the end of the cosine.
    warmup_factor: constant share during warm-up; 0: it rises linearly, from 1/(warmup+1). kind: see the setting
    `training.schedule`. Sources: SGDR (ICLR 2017), eq. 5; `timm`: CosineLRScheduler without a warm-up prefix, as
    ViFi-CLIP calls it; `dassl`: CosineAnnealingLR per epoch behind a warm-up, as CoOp and the methods after it call it.
    """

    total: int
    warmup: int
    per_epoch: int = 1
    floor: float = 0.0
    warmup_factor: float = 0.0
    kind: Schedule = "cosine"

    def factor(self, step: int) -> float:
        """Share of the full rate in an update; step: updates done before it (0…total-1)."""
        if step < self.warmup:
            return self.warmup_factor or (step + 1) / (self.warmup + 1)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, self._progress(step))))

    def _progress(self, step: int) -> float:
        """How much of the cosine lies behind an update."""
        if self.kind == "timm":
            return step / self.total
        if self.kind == "dassl":
            return (step // self.per_epoch - self.warmup // self.per_epoch) * self.per_epoch / self.total
        return (step - self.warmup) / max(1, self.total - self.warmup)


@dataclass(frozen=True)
class Stages:
    """The rate of a training that was extended: up to the end of each stage that of a training of that length.

    stages: by rising `total`.
    """

    stages: tuple[Rate, ...]

    def factor(self, step: int) -> float:
        """As `Rate.factor`."""
        stage = next((rate for rate in self.stages if step < rate.total), self.stages[-1])
        return stage.factor(step)
