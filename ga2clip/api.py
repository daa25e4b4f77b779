"""Functions of the public surface that put several rooms together; the others are taken from where they live."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ga2clip.runtime.arguments import video_path
from ga2clip.video import SamplingRule, sample_frames
from ga2clip.video import read_frames as read_numbered_frames


def read_frames(path: str | os.PathLike[str], frames: int | None = None) -> npt.NDArray[np.uint8]:
    """Frames of a video file, uint8 (T, H, W, 3) RGB, upright.

    Args:
        path: the file.
        frames: T, spread over the whole video as a model samples them: the centres of T equal parts, so that a short
            video repeats frames; None: every frame that can be decoded, in memory.

    Raises:
        VideoError: the file can't be decoded.
        UserError: no path; `frames` that is no whole number from 1 to 100,000, or above 1,024 although the video has
            fewer.

    Example:
        >>> read_frames("clip.mp4", frames=8).shape
        (8, 240, 320, 3)
    """
    file = video_path(path)
    if frames is None:
        return read_numbered_frames(file)[0]
    return sample_frames(file, SamplingRule(frames=frames), time_limit=None).frames


def train(
    dataset: str,
    out: str | os.PathLike[str],
    *,
    method: str | None = None,
    protocol: str | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Path:
    """Tune a method on a prepared dataset and write a run. Needs the `train` extra.

    Args:
        dataset: the name of a dataset that `ga2clip prepare` has prepared.
        out: the folder of the run, new or empty.
        method: as `ga2clip methods` lists them; None: the recipe's.
        protocol: `base-to-novel`, `few-shot`, `zero-shot` or `full`; None: the recipe's.
        recipe: a file of settings or the name of a shipped recipe; None: the dataset's own.
        settings: single settings, which win over the recipe: `{"data": {"shots": 4}, "training": {"epochs": 2}}`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show a bar on stderr.

    Returns:
        The folder, for `evaluate`, `export` and `open_predictor`.

    Raises:
        UserError: names, settings, data or a folder that can't be used.
        StoppedError: SIGTERM or Ctrl-C came; a checkpoint was saved, and `ga2clip train --resume` goes on.
    """
    from ga2clip.training.configure import configure
    from ga2clip.training.train import train as train_run

    chosen = configure(dataset=dataset, method=method, protocol=protocol, recipe=recipe, options=settings)
    return train_run(chosen, Path(out), device=device, progress=progress)
