"""Public functions that combine several subpackages; the other public names are imported from their own modules."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ga2clip.runtime.arguments import video_path
from ga2clip.video import SamplingRule, sample_frames
from ga2clip.video import read_frames as read_numbered_frames

if TYPE_CHECKING:
    from ga2clip.training.callbacks import Callback


def read_frames(path: str | os.PathLike[str], frames: int | None = None) -> npt.NDArray[np.uint8]:
    """Read the frames of a video file.

    Args:
        path: the file.
        frames: T. The frames are taken as models sample them: the centres of T equal parts of the video (a short
            video repeats frames). None: every frame that can be decoded, all in memory.

    Returns:
        uint8 (T, H, W, 3), RGB, upright, in display order.

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
    descriptions: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    progress: bool = False,
    callbacks: "Sequence[Callback]" = (),
) -> Path:
    """Tune a method on a prepared dataset and write a run. Needs the `train` extra.

    Args:
        dataset: name of a dataset that was prepared with `ga2clip prepare`.
        out: the folder of the run; it must not exist or be empty.
        method: one of the methods that `ga2clip methods` lists; None: the recipe's.
        protocol: `base-to-novel`, `few-shot`, `zero-shot` or `full`; None: the recipe's.
        recipe: a settings file (TOML) or the name of a shipped recipe; None: the dataset's own.
        descriptions: a file with sentences about each class, or `builtin` for those of a generated dataset; None:
            none.
        settings: single settings by section, which override the recipe; `{"descriptions": {name: [sentence, …]}}`
            are descriptions in place of a file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show a progress bar on stderr.
        callbacks: objects with a method `on_epoch_end(metrics)`, called after every epoch; one that returns True ends
            the training, and the run is complete (`ga2clip.training.callbacks.Callback`).

    Returns:
        The folder of the run, to be given to `evaluate`, `export` and `open_predictor`.

    Raises:
        UserError: an unknown name or setting, a dataset that is not prepared, or a folder that is not empty.
        StoppedError: training was stopped by SIGTERM or Ctrl-C. A checkpoint was saved; `ga2clip train --resume`
            continues.

    Example:
        >>> run = train("stickfigures", "runs/small", method="ivlp", settings={"data": {"shots": 4}})
    """
    from ga2clip.training.configure import configure
    from ga2clip.training.train import train as train_run

    chosen = configure(
        dataset=dataset,
        method=method,
        protocol=protocol,
        recipe=recipe,
        descriptions=descriptions,
        options=settings,
    )
    return train_run(chosen, Path(out), device=device, progress=progress, callbacks=callbacks)
