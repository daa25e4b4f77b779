"""The factor of the learning rate (0…1) at each update."""

import math


def lr_factor(step: int, total: int, warmup: int, *, floor: float = 0.0, warmup_factor: float = 0.0) -> float:
    """Warm-up over `warmup` steps, then half a cosine down to `floor` at `total` (SGDR, ICLR 2017, eq. 5).

    step: updates done before this one (0…total-1). Warm-up is linear, from 1/(warmup+1), or constant at
    `warmup_factor`. The last step is above the floor, so that it still has an effect.
    """
    if step < warmup:
        return warmup_factor or (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
