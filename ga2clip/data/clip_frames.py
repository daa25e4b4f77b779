"""Frames of a clip of a manifest from its video file, whether it is the whole file or a span of it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ga2clip.data.augment import Frames
from ga2clip.data.check import file_time_limit
from ga2clip.data.manifest import Clip
from ga2clip.video import Preprocess, SamplingRule, read_frames, sample_frames, sample_indices

_Times = npt.NDArray[np.float64]


def read_clip(
    root: Path, clip: Clip, rule: SamplingRule, size: int | Preprocess | None
) -> tuple[Frames, _Times]:
    """The frames that a rule selects of a clip: uint8 (V·T, H, W, 3), view after view, and their times in the file.

    The frames of a span are those that a file with only these frames would have.

    Args:
        root: the dataset's folder.
        clip: of its manifest.
        rule: which frames.
        size: of the short side, or the preprocessing that resizes; None: as in the file.

    Raises:
        VideoError: the file can't be read.
    """
    path = root / clip.path
    limit = file_time_limit(path)
    if clip.span is None:
        sampled = sample_frames(path, rule, size=size, time_limit=limit)
        return sampled.frames, sampled.times
    numbers = clip.first + sample_indices(clip.frames, rule).ravel()
    return read_frames(path, numbers.tolist(), size=size, time_limit=limit)
