"""Checks of the arguments of public functions. Each returns the value in the expected type or raises UserError."""

import math
import operator
import os
from collections.abc import Iterable

import numpy as np

from ga2clip.errors import UserError
from ga2clip.labels import fill, is_unicode


def at_least_one(name: str, value: object) -> int:
    """A whole number of at least 1; NumPy integers are accepted. Raises UserError for anything else, also for bools."""
    number = _whole(value)
    if number < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {value!r:.40}")
    return number


def thread_count(value: object) -> int:
    """How many threads an engine takes, 0: its own choice. Raises UserError for what no machine has use for."""
    most = max(64, 4 * (os.cpu_count() or 1))
    number = _whole(value)
    if not 0 <= number <= most:
        raise UserError(f"threads must be 0 or more, at most {most} here, got {value!r:.40}")
    return number


def _whole(value: object) -> int:
    """-1 for what is no whole number."""
    try:
        return -1 if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return -1


def above_zero(name: str, value: object, unit: str = "") -> float:
    """A number above 0. Raises UserError for anything else, True, NaN and infinity included."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise UserError(f"{name} must be a number{unit} above 0, got {value!r:.40}")
    return number


def zero_or_more(name: str, value: object) -> float:
    """A number from 0 on. Raises UserError for anything else, True, NaN and infinity included."""
    number = _number(value)
    if not 0 <= number < math.inf:
        raise UserError(f"{name} must be a number of 0 or more, got {value!r:.40}")
    return number


def _number(value: object) -> float:
    """NaN for what is no number."""
    taken = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        return float(value) if taken else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def seconds(name: str, value: object) -> float:
    """A finite number of seconds above 0. Raises UserError for anything else."""
    return above_zero(name, value, " of seconds")


def flag(name: str, value: object) -> bool:
    """True or False. Raises UserError for anything else: a string such as "no" would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise UserError(f"{name} must be True or False, got {value!r:.40}")
    return bool(value)


def video_path(path: object) -> str:
    """The path of a video as a string. Raises UserError for anything but a string or `os.PathLike`; bytes too."""
    name = path if isinstance(path, str) else os.fspath(path) if isinstance(path, os.PathLike) else None
    if not isinstance(name, str) or not name:
        raise UserError(f"a video is given by its path as text, got {path!r:.60}", "such as 'clip.mp4'")
    return name


def video_paths(paths: object) -> Iterable[object]:
    """Several paths. A list or tuple is checked at once; items of any other iterable are checked when they are used.

    Raises:
        UserError: a single path instead of several, or an item of a list that is not a path.
    """
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        raise UserError(
            f"videos are given as a list of paths, got {paths!r:.60}", "such as ['a.mp4', 'b.mp4']"
        )
    if isinstance(paths, list | tuple):
        for path in paths:
            video_path(path)
    return paths


def sentence(template: object) -> str | None:
    """A template for class names, None: the model's own. Raises UserError for what is no text with one `{}`."""
    if template is None:
        return None
    if not isinstance(template, str):
        raise UserError(f"the template must be a string with {{}}, got {template!r:.40}")
    if not is_unicode(template):
        raise UserError(f"the template is not Unicode text: {template!a:.80}")
    fill(template, "")
    return template


def rgb_frames(frames: object) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) RGB of any T ≥ 1, H and W.

    Raises:
        UserError: anything else. Masked arrays are refused because their mask would be ignored.
    """
    return _pixels("frames", frames, "T", "H", "W", 3)


def prepared_frames(frames: object, size: int) -> np.ndarray:
    """Frames uint8 (T, size, size, 3) RGB of any T ≥ 1. Raises UserError as `rgb_frames`."""
    return _pixels("prepared frames", frames, "T", size, size, 3)


def prepared_clips(clips: object, size: int) -> np.ndarray:
    """Clips uint8 (B, T, size, size, 3) RGB of any B ≥ 1 and T ≥ 1. Raises UserError as `rgb_frames`."""
    return _pixels("prepared clips", clips, "B", "T", size, size, 3)


def float_features(features: object) -> np.ndarray:
    """Features float32 (B, T, D) of any B, T and D ≥ 1. Raises UserError for anything else."""
    if not isinstance(features, np.ndarray) or features.dtype != np.float32:
        found = getattr(features, "dtype", type(features).__name__)
        raise UserError(f"frame features must be a float32 array, got {found}", "as encode_frames gives them")
    if features.ndim != 3 or 0 in features.shape:
        raise UserError(f"frame features must be (B, T, D), got {features.shape}")
    return features


def _pixels(name: str, array: object, *sides: int | str) -> np.ndarray:
    """A uint8 array. sides: lengths, or names where any length from 1 on will do."""
    kind = getattr(array, "dtype", "") if isinstance(array, np.ndarray) else ""
    masked = hasattr(array, "mask")  # np.ma.MaskedArray, whose module would be loaded for its name alone
    if masked or not isinstance(array, np.ndarray) or kind != np.uint8:
        found = type(array).__name__ if masked or not kind else kind
        raise UserError(f"{name} must be a uint8 array, got {found}", "RGB values from 0 to 255")
    fits = [
        side > 0 if isinstance(want, str) else side == want
        for side, want in zip(array.shape, sides, strict=False)
    ]
    if array.ndim != len(sides) or not all(fits):
        raise UserError(f"{name} must be ({', '.join(map(str, sides))}), got {array.shape}")
    return array
