"""Reading the clips of a dataset for training or evaluation: uint8 (T, H, W, 3), torch-free.

Frames come from the frame cache if `prepare --cache` made one, else they are decoded from the file.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ga2clip.data.augment import Frames, augment_clip
from ga2clip.data.cache import FrameStore
from ga2clip.data.clip_frames import read_clip
from ga2clip.data.manifest import Clip
from ga2clip.settings import Settings
from ga2clip.video import (
    Preprocess,
    SamplingRule,
    sample_indices,
    three_crops,
)

_TRAINING_MARGIN = 8 / 7  # short side before the random crop, in units of the crop: 256 for 224, as usual


class ClipReader:
    """Reads clips of one dataset for training or evaluation.

    root: the dataset's folder. flip: whether a mirrored clip shows the same action.
    Errors of the methods: VideoError for a clip that can't be read.
    """

    def __init__(self, root: Path, settings: Settings, preprocess: Preprocess, *, flip: bool = True) -> None:
        self._root = root
        self._settings = settings
        self._size, self._preprocess = preprocess.size, preprocess
        self._flip = flip
        self._store = FrameStore.find(root) if settings.data.cache else None

    def training_clip(self, clip: Clip, seed: tuple[int, ...]) -> Frames:
        """T frames, one at random from each of T segments, augmented: uint8 (T, size, size, 3), fixed by `seed`."""
        rng = np.random.default_rng(seed)
        rule = SamplingRule(self._settings.data.frames, train=True, seed=int(rng.integers(2**62)))
        frames = self._frames(clip, rule, round(self._size * _TRAINING_MARGIN))
        return augment_clip(frames, self._size, self._settings.augment, flip=self._flip, rng=rng)

    def evaluation_clip(self, clip: Clip) -> Frames:
        """An evaluation clip: uint8 (T, size, size, 3), or (V, T, size, size, 3) for V > 1 views.

        Three crops cover the whole frame undistorted, whatever the backbone's preprocessing does with one.
        """
        data = self._settings.data
        rule = SamplingRule(data.frames, clips=data.test_clips)
        if data.test_crops == 3:
            short = replace(self._preprocess, resize_mode="shortest")
            views = three_crops(short.resize(self._frames(clip, rule, short)), self._size)
        else:
            views = self._preprocess.frames(self._frames(clip, rule, self._preprocess))
        views = views.reshape(-1, data.frames, self._size, self._size, 3)
        return np.ascontiguousarray(views[0] if len(views) == 1 else views)

    def _frames(self, clip: Clip, rule: SamplingRule, size: int | Preprocess) -> Frames:
        """Frames by a rule, view after view: (V·T, H, W, 3); those from a file are resized as `sample_frames` does."""
        if self._store is not None and clip in self._store:
            indices = sample_indices(self._store.count(clip), rule)
            return self._store.read(clip, indices.ravel())
        return read_clip(self._root, clip, rule, size)[0]
