"""Batches of precomputed frame features instead of clips, for models whose vision tower does not train.

Clips are sampled and preprocessed as in evaluation, without augmentation, which would change them in every epoch.
"""

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import encode_clips
from ga2clip.data.loader import plan_epoch
from ga2clip.data.manifest import Clip
from ga2clip.data.protocols import Task
from ga2clip.errors import UserError
from ga2clip.model.pooling import mean_pool
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.settings import Settings
from ga2clip.text import counted, printable
from ga2clip.training.update import FeatureBatch

_log = logging.getLogger(__name__)


def frame_features(
    model: VideoCLIP, clips: Sequence[Clip], settings: Settings, group: Group
) -> dict[str, Tensor]:
    """Clip id → frame features float32 (T, D) of one view, in every process. Clips that cannot be read are left out.

    Where nothing pools the frames, their mean is kept alone: T is 1.
    """
    single = settings.updated({"data": {"test_clips": 1, "test_crops": 1}}, "one view")

    def encode(video: Tensor) -> Tensor:
        frames = model.encode_frames(video)
        return frames if model.pools else mean_pool(frames)[:, None]

    encoded = encode_clips(model, clips, single, group, encode=encode)
    return {name: views[0] for name, views in encoded.features.items()}


class CachedBatches:
    """The batches of `train_batches`, as features."""

    def __init__(self, task: Task, settings: Settings, group: Group, features: dict[str, Tensor]) -> None:
        """features: (T, D) by clip id, of the training and anchor clips."""
        self.task, self.settings, self.group, self.features = task, settings, group, features
        missing = [clip.id for clip in task.train if clip.id not in features]
        if missing:
            _log.warning(
                "%s left out, unreadable, such as %s",
                counted(len(missing), "training clip"),
                printable(missing[0]),
            )
        if len(missing) == len(task.train):
            raise UserError("no training clip can be read", "prepare the dataset again")

    def __call__(self, epoch: int, skip: int) -> Iterator[FeatureBatch]:
        """The batches of an epoch for this process, after the first `skip`."""
        plan = plan_epoch(self.task, self.settings, epoch=epoch, rank=self.group.rank, world=self.group.size)
        for samples in plan[skip:]:
            rows = [sample for sample in samples if sample.clip.id in self.features]
            yield FeatureBatch(
                features=torch.stack([self.features[sample.clip.id] for sample in rows]),
                labels=torch.tensor([sample.label for sample in rows]),
                ids=[sample.clip.id for sample in rows],
            )
