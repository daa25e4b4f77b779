"""How long a training and its test would take on this machine: from a measured update and a measured clip."""

import json
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
from ga2clip.training.estimate import Cost, estimate
from ga2clip.training.update import Updater
from ga2clip.video import VideoError

_READ = 3  # clips that are read for the measurement


@dataclass(frozen=True)
class Expected:
    """Seconds of training and of testing. reading: whether reading clips is counted, since there were some to read."""

    training: float
    testing: float
    reading: bool


@dataclass(frozen=True)
class Pace:
    """What was measured on this machine.

    update: of one update; None: nothing trains. forward: seconds of a clip through the vision tower. read: seconds to
    read a clip; None: there was none to read. encodes_once: as `VideoCLIP.features_suffice`, so clips may be encoded
    once. processes: that share an update.
    """

    update: Cost | None
    forward: float
    read: float | None
    encodes_once: bool
    processes: int


_NO_MATTER = {"training": ("seed", "epochs", "lr"), "data": ("shots", "protocol")}
"""Settings that change the number of updates and clips, or what is learned, but not the time that one takes."""


def pace_key(settings: Settings, task: Task) -> str:
    """Equal for tasks that `measure_pace` would find equally fast."""
    tree = settings.model_dump(mode="json")
    for table, names in _NO_MATTER.items():
        for name in names:
            del tree[table][name]
    return json.dumps([tree, len(task.classes), bool(task.train)], sort_keys=True)


def measure_pace(settings: Settings, task: Task, *, device: str = "auto") -> Pace:
    """Measure an update, a forward pass and the reading of a clip. Nothing is downloaded or written.

    task: those of its clips that are on disk are read.

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
        return Pace(cost, forward, read, model.features_suffice, group.size)


def expected_time(settings: Settings, task: Task, pace: Pace) -> Expected:
    """The time of a training with these settings and of its test. task: its numbers of clips count."""
    training = settings.training
    views = settings.data.test_clips * settings.data.test_crops
    tests = sum(len(part.clips) for part in task.evals)
    loading = (pace.read or 0.0) / max(1, training.workers)
    seconds = 0.0
    if cost := pace.update:
        updates = training.epochs * batches_per_epoch(task, settings, pace.processes)
        clips = len(task.train) + len(task.anchors)
        if training.cache_features and pace.encodes_once:
            seconds = updates * cost.text_seconds + clips * (pace.forward + loading)
        else:
            val = len(task.val) * (pace.forward + loading)
            seconds = updates * cost.seconds + training.epochs * (clips * loading + val)
    return Expected(seconds, tests * (views * pace.forward + loading), pace.read is not None)


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
