"""`ClipModel`, what `Predictor` needs of a model: features of frames, clips and class names, and the scoring rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ga2clip.choices import ScoringRule
from ga2clip.errors import UserError
from ga2clip.runtime.calibration_card import CalibrationCard
from ga2clip.runtime.teaching import Head
from ga2clip.video import Preprocess


@dataclass(frozen=True)
class Encoded:
    """The features of a video file.

    video: float32 (D,), not normalised. frames: float32 (T, D), of the sampled frames, if they were asked for. times:
    float64 (T,), seconds at which those are shown. reused: sampled frames that had not changed and were not encoded.
    """

    file: str
    video: np.ndarray
    frames: np.ndarray | None
    times: np.ndarray
    reused: int = 0


class ClipModel(Protocol):
    """A video CLIP that takes and returns NumPy arrays: a bundle, a torch model, or any class with these members.

    Features have D numbers and are only normalised where this is said. `Predictor` validates its arguments first, so
    the methods may rely on shapes, dtypes and names.
    """

    name: str
    """A readable name of the model, such as `ga2 on ViT-B-16 (fp32), runs/ga2/bundle`."""
    provider: str
    """Where it computes: `cpu`, `cuda`, `torch on cpu` …"""
    classes: tuple[str, ...]
    """The class names that are ranked when a call gives none."""
    preprocess: Preprocess
    """Resizes and crops frames of any size to the encoder's side S."""
    frames: int
    """T, the number of frames that are sampled from a video file."""
    independent_frames: bool
    """Whether the features of a frame depend on that frame alone; if not, also on its neighbours in the clip."""
    scale: float
    """The factor on cosines before the softmax or sigmoid (`exp(logit_scale)`)."""
    scoring: ScoringRule
    """`softmax`: the classes share a probability of 1. `sigmoid`: each has one of its own."""
    logit_bias: float
    """Added to scale times cosine before a sigmoid; 0 with a softmax."""
    negatives: np.ndarray
    """float32 (K, D), L2-normalised: features of the negative prompts; K may be 0."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hexadecimal digits, of all that influences an answer, except the question."""
        ...

    @property
    def threshold(self) -> float | None:
        """The open-set threshold: a video whose best class cosine minus best negative cosine is below it belongs to
        none of the classes. None: not fitted.
        """
        ...

    @property
    def taught(self) -> Head | None:
        """What examples taught about the classes; scores come from it instead of cosines. None: nothing."""
        ...

    @property
    def calibration(self) -> CalibrationCard | None:
        """What makes probabilities of scores that examples have not changed. None: not fitted."""
        ...

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 (T, S, S, 3), of one clip and in the order of time → features float32 (T, D)."""
        ...

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        """Clips uint8 (B, T, S, S, 3) → video features float32 (B, D): the pooled features of their frames."""
        ...

    def pool(self, features: np.ndarray) -> np.ndarray:
        """Frame features float32 (B, T, D) in the order of time → video features float32 (B, D), for any T ≥ 1.

        The frames are taken as evenly spaced. Each row depends on its own frames alone.
        """
        ...

    def encode_classes(
        self, names: Sequence[str], template: str | None, sentences: Mapping[str, Sequence[str]]
    ) -> np.ndarray:
        """Class names → features float32 (C, D), L2-normalised.

        template: a sentence with `{}` for the name in place of the model's own class text. sentences: descriptions of
        some of the names, in place of what the model knows of them; empty where there is a template.
        """
        ...

    def unknown_words(self, names: Sequence[str]) -> list[str]:
        """The words in class names that the model has never seen."""
        ...

    def close(self) -> None:
        """Release memory; no other method is called afterwards."""
        ...


_MEMBERS = frozenset(
    {*ClipModel.__annotations__, *(name for name in vars(ClipModel) if not name.startswith("_"))}
)


def check_model(model: object) -> None:
    """Raises UserError for what lacks members of `ClipModel`, by their names."""
    if not hasattr(model, "encode_clips"):
        raise UserError(f"a model is the folder of a bundle, got {model!r:.60}", "such as 'run/bundle'")
    # `dir` computes nothing, but does not see what a `__getattr__` passes on.
    missing = [name for name in sorted(_MEMBERS - set(dir(model))) if not hasattr(model, name)]
    if missing:
        raise UserError(
            f"the model {type(model).__name__} lacks {', '.join(missing)}",
            "`ga2clip.runtime.ClipModel` says what each is",
        )
