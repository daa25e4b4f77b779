"""What a `Predictor` needs of a model: features of frames, clips and class names, and how they are scored."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ga2clip.video import Preprocess


class ClipModel(Protocol):
    """A video CLIP behind arrays: a bundle's encoders, a model in torch, or anything else with these members.

    Features have D numbers and need not be normalised unless said. `Predictor` checks what its user gives, so the
    methods may rely on shapes, dtypes and names.
    """

    name: str
    """Which model speaks, for people."""
    provider: str
    """What computes, for people: `cpu`, `cuda`, `torch on cpu` …"""
    classes: tuple[str, ...]
    """Ranked when a question names none."""
    preprocess: Preprocess
    """Makes frames of any size those of side S that the encoder takes."""
    frames: int
    """T, frames sampled from a video file."""
    scale: float
    """What a cosine is multiplied by before the softmax."""
    negatives: np.ndarray
    """float32 (K, D), L2-normalised: features of the negative prompts; K may be 0."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hexadecimal digits, of what decides an answer: results say with it which model gave them."""
        ...

    @property
    def threshold(self) -> float | None:
        """Best class cosine minus best negative cosine below which a video is of no class; None: not fitted."""
        ...

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 (T, S, S, 3) → features float32 (T, D)."""
        ...

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """Clips uint8 (B, T, S, S, 3) → video features float32 (B, D): the mean over frames."""
        ...

    def encode_classes(self, names: Sequence[str], template: str | None) -> np.ndarray:
        """Class names → features float32 (C, D), L2-normalised.

        template: a sentence with `{}` for the name in place of the model's own class text.
        """
        ...

    def close(self) -> None:
        """Let go of memory; nothing is asked afterwards."""
        ...
