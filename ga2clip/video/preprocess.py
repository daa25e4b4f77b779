"""Preprocessing: frames (T, H, W, 3) uint8 RGB → the input of the image encoder, float32 (T, 3, size, size).

Training, evaluation, export and runtime all use this one recipe, which is stored in bundles as JSON. It is open_clip's
`preprocess_cfg`: what CLIP was trained with by default, and what other families were trained with where they say so.
"""

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ga2clip.choices import Interpolation, ResizeMode
from ga2clip.errors import UserError

Frames = npt.NDArray[np.uint8]

# Radford et al. 2021; the values of the published preprocessing.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """Resize and crop to size × size pixels, then (x / 255 - mean) / std.

        shortest   the short side becomes `size`, the centre is cropped (CLIP)
        squash     both sides become `size`, whatever the aspect ratio was (SigLIP, PE-Core)
        longest    the long side becomes `size`, the rest is padded with the grey value `fill` (0 to 255)

    Resizing is Pillow's, antialiased.
    """

    size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: int = 0

    def frames(self, frames: Frames) -> Frames:
        """Resize and crop: uint8 (T, H, W, 3) → uint8 (T, size, size, 3)."""
        resized = self.resize(frames)
        if self.resize_mode == "longest":
            return _pad(resized, self.size, self.fill)
        return centre_crop(resized, self.size)

    def resize(self, frames: Frames) -> Frames:
        """Resize alone: uint8 (T, H, W, 3) → uint8 (T, H', W', 3). Frames that it gave are returned unchanged."""
        height, width = frames.shape[1:3]
        if self.resize_mode == "shortest":
            return resize_short_side(frames, self.size, self.interpolation)
        if self.resize_mode == "squash":
            return _resize(frames, self.size, self.size, self.interpolation)
        ratio = max(height, width) / self.size
        # A side that would vanish keeps one pixel, where open_clip's transform fails.
        height, width = (max(round(side / ratio), 1) for side in (height, width))
        return _resize(frames, height, width, self.interpolation)

    def normalise(self, frames: Frames) -> npt.NDArray[np.float32]:
        """Normalise: uint8 (..., H, W, 3) → float32 (..., 3, H, W), channels first."""
        out = np.empty((*frames.shape[:-3], 3, *frames.shape[-3:-1]), dtype=np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            plane = out[..., channel, :, :]
            np.multiply(frames[..., channel], np.float32(1 / (255 * std)), out=plane)
            plane -= np.float32(mean / std)
        return out

    def to_json(self) -> dict[str, Any]:
        """The recipe as a JSON object; what is as in CLIP's recipe is left out, except mean and std."""
        tree: dict[str, Any] = {"size": self.size, "mean": list(self.mean), "std": list(self.std)}
        usual = Preprocess(self.size)
        return tree | {key: value for key in _KINDS if (value := getattr(self, key)) != getattr(usual, key)}

    @classmethod
    def from_json(cls, data: Any) -> "Preprocess":
        """The recipe from its JSON object. Raises UserError for anything else."""
        needed = {"size", "mean", "std"}
        if not isinstance(data, dict) or not needed <= set(data) <= needed | set(_KINDS):
            raise UserError(
                "preprocessing: expected an object with 'size', 'mean' and 'std', and perhaps "
                "'resize_mode', 'interpolation' and 'fill'"
            )
        mean, std = _three_numbers(data, "mean"), _three_numbers(data, "std")
        if min(std) <= 0:
            raise UserError(f"preprocessing: 'std' must be positive, not {data['std']!r}")
        size = _whole_number(data, "size", 1, 4096)
        kinds: dict[str, Any] = {key: data[key] for key in _KINDS if key in data}
        for key, known in (("resize_mode", get_args(ResizeMode)), ("interpolation", get_args(Interpolation))):
            if key in kinds and kinds[key] not in known:
                raise UserError(
                    f"preprocessing: '{key}' must be one of {', '.join(known)}, not {kinds[key]!r:.60}"
                )
        if "fill" in kinds:
            _whole_number(data, "fill", 0, 255)
        return cls(size, mean, std, **kinds)


_KINDS = ("resize_mode", "interpolation", "fill")
"""The fields that CLIP's recipe has at their defaults."""


def resize_short_side(frames: Frames, size: int, interpolation: Interpolation = "bicubic") -> Frames:
    """Resize frames (T, H, W, 3) so that the short side is `size`; the long side is rounded down.

    The same function with the same sizes as in CLIP's published preprocessing.
    """
    height, width = frames.shape[1:3]
    short, long = sorted((height, width))
    new_long = int(size * long / short)
    new_height, new_width = (size, new_long) if height <= width else (new_long, size)
    return _resize(frames, new_height, new_width, interpolation)


def _resize(frames: Frames, height: int, width: int, interpolation: Interpolation) -> Frames:
    """Resize by Pillow, antialiased; frames that have this size are returned as they are."""
    if frames.shape[1:3] == (height, width):
        return frames
    from PIL import Image  # here: the recipe alone, which opening a model needs, does without Pillow

    kernel = Image.Resampling[interpolation.upper()]
    out = np.empty((len(frames), height, width, 3), dtype=np.uint8)
    for source, target in zip(frames, out, strict=True):
        image = Image.fromarray(np.ascontiguousarray(source))
        target[...] = np.asarray(image.resize((width, height), kernel))
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


def _pad(frames: Frames, size: int, fill: int) -> Frames:
    """Frames whose sides are at most `size`, in the middle of a square of the grey value `fill`."""
    height, width = frames.shape[1:3]
    if height == width == size:
        return frames
    out = np.full((len(frames), size, size, 3), fill, dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    out[:, top : top + height, left : left + width] = frames
    return out


def _whole_number(data: dict[str, Any], key: str, least: int, most: int) -> int:
    value = data[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UserError(
            f"preprocessing: '{key}' must be a whole number from {least} to {most}, not {value!r:.60}"
        )
    return value


def _three_numbers(data: dict[str, Any], key: str) -> tuple[float, float, float]:
    value = data[key]
    numbers = isinstance(value, list | tuple) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value
    )
    if not numbers or len(value) != 3:
        raise UserError(f"preprocessing: '{key}' must be three numbers, not {value!r}")
    return float(value[0]), float(value[1]), float(value[2])
