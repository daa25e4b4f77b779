"""Checks of the arguments of public functions. Each returns the value in the expected type or raises UserError."""

import math
import operator
import os
from collections.abc import Iterable

import numpy as np

from ga2clip.errors import UserError


def at_least_one(name: str, value: object) -> int:
    """A whole number of at least 1; NumPy integers are accepted. Raises UserError for anything else, also for bools."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool | np.bool_):
        raise UserError(f"{name} must be a whole number of at least 1, got {value!r:.40}")
    return number


def seconds(name: str, value: object) -> float:
    """A finite number of seconds above 0. Raises UserError for anything else."""
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
    if not 0 < number < math.inf:
        raise UserError(f"{name} must be a number of seconds above 0, got {value!r:.40}")
    return number


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


def rgb_frames(frames: object) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) RGB of any T ≥ 1, H and W.

    Raises:
        UserError: anything else. Masked arrays are refused because their mask would be ignored.
    """
    if isinstance(frames, np.ma.MaskedArray) or not isinstance(frames, np.ndarray):
        raise UserError(
            f"frames must be a uint8 array, got {type(frames).__name__}", "RGB values from 0 to 255"
        )
    if frames.dtype != np.uint8:
        raise UserError(f"frames must be a uint8 array, got {frames.dtype}", "RGB values from 0 to 255")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(f"frames must be (T, H, W, 3), got {frames.shape}")
    return frames
