"""Augmentation of a training clip: uint8 (T, H, W, 3) → (T, size, size, 3).

Each random change is drawn once per clip and applied equally to all its frames, so that motion is preserved.
"""

import math

import cv2
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
    if settings.colour and rng.random() < settings.colour:
        frames = _jitter(frames, rng)
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


def _jitter(frames: Frames, rng: np.random.Generator) -> Frames:
    """Brightness and contrast by a factor in 1 ± 0.4, saturation in 1 ± 0.2, then hue by up to a tenth of its circle.

    The strengths of X-CLIP's pipeline (ECCV 2022), which ViFi-CLIP's is taken from.
    """
    brightness, contrast = rng.uniform(0.6, 1.4, size=2).astype(np.float32)
    saturation = np.float32(rng.uniform(0.8, 1.2))
    pixels = frames.astype(np.float32) * brightness
    mean = (pixels @ _LUMA).mean()
    pixels = mean + (pixels - mean) * contrast
    luma = (pixels @ _LUMA)[..., None]
    pixels = luma + (pixels - luma) * saturation
    return _turn_hue(pixels.round().clip(0, 255).astype(np.uint8), rng.uniform(-0.1, 0.1))


def _turn_hue(frames: Frames, turn: float) -> Frames:
    """Hue moved by `turn` of its circle; OpenCV's hue of a byte has 180 steps."""
    moved = np.empty_like(frames)
    for source, target in zip(frames, moved, strict=True):
        hsv = cv2.cvtColor(np.ascontiguousarray(source), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int32) + round(180 * turn)) % 180
        target[...] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return moved
