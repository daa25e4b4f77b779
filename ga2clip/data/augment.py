"""Augmentation of a training clip: uint8 (T, H, W, 3) → (T, size, size, 3).

Each random change is drawn once per clip and applied equally to all its frames, so that motion is preserved.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from ga2clip.settings import AugmentSettings

Frames = npt.NDArray[np.uint8]

_LOG_ASPECT, _TRIES = math.log(4 / 3), 10
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def augment_clip(
    frames: Frames, size: int, settings: AugmentSettings, *, flip: bool, rng: np.random.Generator
) -> Frames:
    """Random resized crop, mirror, grey and colour jitter of a clip: uint8 (T, size, size, 3).

    flip: whether a mirrored clip still shows the same action.
    """
    frames = _resized_crop(frames, size, random_box(frames.shape[1:3], settings.scale_min, rng))
    if flip and rng.random() < settings.flip:
        frames = frames[:, :, ::-1]
    if settings.colour:
        frames = _jitter(frames, settings.colour, rng)
    if rng.random() < settings.grey:
        frames = np.repeat((frames @ _LUMA).round().astype(np.uint8)[..., None], 3, axis=-1)
    return np.ascontiguousarray(frames)


def random_box(
    shape: tuple[int, ...], scale_min: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random crop (left, top, right, bottom), in pixels, of a frame of shape (H, W).

    Its area is scale_min … 1 of the frame's, its aspect ratio 3:4 … 4:3 (Szegedy et al., CVPR 2015, section 6). If no
    such crop fits after ten tries, and for scale_min 1, it is the centred square, as in evaluation.
    """
    height, width = shape
    for _ in range(_TRIES if scale_min < 1 else 0):
        area = height * width * rng.uniform(scale_min, 1)
        aspect = math.exp(rng.uniform(-_LOG_ASPECT, _LOG_ASPECT))
        crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_width <= width and crop_height <= height:
            left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _resized_crop(frames: Frames, size: int, box: tuple[float, float, float, float]) -> Frames:
    out = np.empty((len(frames), size, size, 3), dtype=np.uint8)
    for source, target in zip(frames, out, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(source))
        target[...] = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return out


def _jitter(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Brightness, contrast and saturation, each by a factor in 1 ± strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3).astype(np.float32)
    pixels = frames.astype(np.float32) * brightness
    mean = (pixels @ _LUMA).mean()
    pixels = mean + (pixels - mean) * contrast
    luma = (pixels @ _LUMA)[..., None]
    pixels = luma + (pixels - luma) * saturation
    return pixels.round().clip(0, 255).astype(np.uint8)
