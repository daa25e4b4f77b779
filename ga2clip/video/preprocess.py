"""CLIP's preprocessing: frames (T, H, W, 3) uint8 RGB → the input of the image encoder, float32 (T, 3, size, size).

Training, evaluation, export and runtime all use this one recipe, which is stored in bundles as JSON.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ga2clip.errors import UserError

Frames = npt.NDArray[np.uint8]

# Radford et al. 2021; the values of the published preprocessing.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """Resize the short side to `size` (antialiased bicubic), crop the centre, then (x / 255 - mean) / std."""

    size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def frames(self, frames: Frames) -> Frames:
        """Resize and crop: uint8 (T, H, W, 3) → uint8 (T, size, size, 3)."""
        return centre_crop(resize_short_side(frames, self.size), self.size)

    def normalise(self, frames: Frames) -> npt.NDArray[np.float32]:
        """Normalise: uint8 (..., H, W, 3) → float32 (..., 3, H, W), channels first."""
        out = np.empty((*frames.shape[:-3], 3, *frames.shape[-3:-1]), dtype=np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            plane = out[..., channel, :, :]
            np.multiply(frames[..., channel], np.float32(1 / (255 * std)), out=plane)
            plane -= np.float32(mean / std)
        return out

    def to_json(self) -> dict[str, Any]:
        """The recipe as a JSON object."""
        return {"size": self.size, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, data: Any) -> "Preprocess":
        """The recipe from its JSON object. Raises UserError for anything else."""
        if not isinstance(data, dict) or set(data) != {"size", "mean", "std"}:
            raise UserError("preprocessing: expected an object with exactly 'size', 'mean' and 'std'")
        size = data["size"]
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 4096:
            raise UserError(f"preprocessing: 'size' must be a whole number from 1 to 4096, not {size!r}")
        mean, std = _three_numbers(data, "mean"), _three_numbers(data, "std")
        if min(std) <= 0:
            raise UserError(f"preprocessing: 'std' must be positive, not {data['std']!r}")
        return cls(size, mean, std)


def resize_short_side(frames: Frames, size: int) -> Frames:
    """Resize frames (T, H, W, 3) so that the short side is `size`; the long side is rounded down.

    Antialiased bicubic by Pillow: the same function with the same sizes as in CLIP's published preprocessing.
    """
    height, width = frames.shape[1:3]
    short, long = sorted((height, width))
    if short == size:
        return frames
    new_long = int(size * long / short)
    new_height, new_width = (size, new_long) if height <= width else (new_long, size)
    out = np.empty((len(frames), new_height, new_width, 3), dtype=np.uint8)
    for source, target in zip(frames, out, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(source))
        target[...] = np.asarray(picture.resize((new_width, new_height), Image.Resampling.BICUBIC))
    return out


def centre_crop(frames: Frames, size: int) -> Frames:
    """The centre square (T, size, size, 3) of frames whose sides are at least `size`; a view, not a copy."""
    height, width = frames.shape[1:3]
    return _crop(frames, round((height - size) / 2), round((width - size) / 2), size)


def three_crops(frames: Frames, size: int) -> Frames:
    """Left, centre and right squares (top, centre and bottom of tall frames): (3, T, size, size, 3).

    wide   [L L]C C[R R]        The spatial views of multi-view evaluation (Feichtenhofer et al., ICCV 2019,
           [L L]C C[R R]        section 4.1). The middle one is centre_crop.
    """
    height, width = frames.shape[1:3]
    down, right = (height - size) / 2, (width - size) / 2
    wide = width >= height
    corners = [(down, right * step) if wide else (down * step, right) for step in (0, 1, 2)]
    return np.stack([_crop(frames, round(top), round(left), size) for top, left in corners])


def _crop(frames: Frames, top: int, left: int, size: int) -> Frames:
    if min(frames.shape[1:3]) < size:
        raise ValueError(f"cannot crop {size}×{size} from frames of {frames.shape[1]}×{frames.shape[2]}")
    return frames[:, top : top + size, left : left + size]


def _three_numbers(data: dict[str, Any], key: str) -> tuple[float, float, float]:
    value = data[key]
    numbers = isinstance(value, list | tuple) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value
    )
    if not numbers or len(value) != 3:
        raise UserError(f"preprocessing: '{key}' must be three numbers, not {value!r}")
    return float(value[0]), float(value[1]), float(value[2])
