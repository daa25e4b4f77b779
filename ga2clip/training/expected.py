"""How long a training and its test would take on this machine: from a measured update and a measured clip."""

import time
from dataclasses import dataclass

import torch

from ga2clip.compute.distributed import Group, join_group
from ga2clip.compute.precision import autocast, autocast_dtype
from ga2clip.data.loader import batches_per_epoch
from ga2clip.data.protocols import Task
from ga2clip.data.reader import ClipReader
from ga2clip.model.load_backbone import backbone_to_time
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings
from ga2clip.training.estimate import estimate
from ga2clip.training.update import Updater
from ga2clip.video import VideoError

_READ = 3  # clips that are read for the measurement


@dataclass(frozen=True)
class Expected:
    """Seconds of training and of testing. reading: whether reading clips is counted, since there were some to read."""

    training: float
    testing: float
    reading: bool


def expected_time(settings: Settings, task: Task, *, device: str = "auto") -> Expected:
    """Measure an update, a forward pass and the reading of a clip, and multiply. Nothing is downloaded or written.

    task: its numbers of clips count; those that are on disk are read.

    Raises:
        UserError: an unknown backbone, a weights file that can't be read, no memory, a device that is not there.
    """
    with join_group(device) as group:
        backbone = backbone_to_time(settings.backbone)
        method = settings.method
        hard = torch.zeros(max(1, method.text_length), backbone.text.width)
        model = build_model(backbone, settings, task.classes, hard if method.coupling != "none" else None)
        model.to(group.device)
        updater = Updater(model, group)
        forward = _forward_seconds(model, settings, group)
        read = _read_seconds(task, settings, model)
        cost = estimate(updater) if task.train else None
        training = settings.training
        tests = sum(len(part.clips) for part in task.evals)
        views = settings.data.test_clips * settings.data.test_crops
        seconds = 0.0
        loading = (read or 0.0) / max(1, training.workers)
        if cost:
            updates = training.epochs * batches_per_epoch(task, settings, group.size)
            clips = len(task.train) + len(task.anchors)
            if training.cache_features and model.features_suffice:
                seconds = updates * cost.text_seconds + clips * (forward + loading)
            else:
                val = len(task.val) * (forward + loading)
                seconds = updates * cost.seconds + training.epochs * (clips * loading + val)
        return Expected(seconds, tests * (views * forward + loading), read is not None)


@torch.no_grad()
def _forward_seconds(model: VideoCLIP, settings: Settings, group: Group) -> float:
    """Seconds of the second of two passes of a clip of random pixels; the first warms up."""
    size = model.preprocess.size
    video = torch.rand(1, settings.data.frames, 3, size, size, device=group.device)
    dtype = autocast_dtype(settings.training.precision, group.device, model.backbone.vision.width)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with autocast(group.device, dtype):
            model.encode_video(video).sum().item()  # waits for a GPU
        seconds = time.perf_counter() - started
    return seconds


def _read_seconds(task: Task, settings: Settings, model: VideoCLIP) -> float | None:
    """Mean seconds to read a clip, over a few that are on disk; None if there is none."""
    there = (clip for part in (task.train, *(part.clips for part in task.evals)) for clip in part)
    reader = ClipReader(task.root, settings, model.preprocess)
    seconds: list[float] = []
    for clip in there:
        if len(seconds) == _READ or not (task.root / clip.path).is_file():
            break
        started = time.perf_counter()
        try:
            reader.evaluation_clip(clip)
        except VideoError:
            continue
        seconds.append(time.perf_counter() - started)
    return sum(seconds) / len(seconds) if seconds else None
