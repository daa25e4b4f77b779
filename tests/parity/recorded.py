"""Where the recorded cases are, and how close to them is close enough."""

import os
from pathlib import Path

from torch import Tensor

FOLDER = Path(os.environ.get("GA2CLIP_GOLDEN") or Path(__file__).parent / "golden")
TOLERANCE = 1e-4


def close(ours: Tensor | None, recorded: Tensor) -> None:
    """Assert that the relative error (norm of the difference over norm) is below the tolerance."""
    assert ours is not None
    assert ours.shape == recorded.shape
    error = (ours.detach() - recorded).norm() / recorded.norm().clamp_min(1e-12)
    assert error <= TOLERANCE, f"relative error {error:.2e}"
