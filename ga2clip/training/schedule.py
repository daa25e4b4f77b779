"""A step number goes in, the factor of the learning rate comes out (0…1)."""

import math


def lr_factor(step: int, total: int, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to zero at `total` (SGDR, ICLR 2017, eq. 5).

    step: updates done before this one (0…total-1). The first warm-up step is 1/(warmup+1), never zero, and the
    last step of all is above zero, so that no update is wasted.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
