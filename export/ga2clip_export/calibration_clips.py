"""Calibration clips, uint8 (N, T, S, S, 3): what an export is measured and its conversion fitted on.

They are the files that the user gives; else the run's own training clips, spread over its classes; else, if the run's
dataset is not on this machine, clips of the built-in stick figures.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ga2clip.data import clip_frames
from ga2clip.data.anchors import anchor_clips
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import Task
from ga2clip.data.stickfigures.classes import CLASSES
from ga2clip.data.stickfigures.render import render_clip
from ga2clip.errors import UserError
from ga2clip.text import counted
from ga2clip.video import Preprocess, SamplingRule, VideoError, sample_frames, sample_indices

_log = logging.getLogger(__name__)

_HELD_OUT = 50
OWN_CLIPS = "training clips of the run"
"""What `calibration_clips` says when the clips show the run's classes."""


def from_files(paths: Sequence[Path], preprocess: Preprocess, frames: int) -> np.ndarray:
    """Clips of these files: uint8 (N, T, S, S, 3). Raises VideoError for a file that can't be read."""
    return np.stack([read_clip(path, preprocess, frames) for path in paths])


def from_task(task: Task, preprocess: Preprocess, frames: int, count: int) -> np.ndarray | None:
    """`count` training clips spread over the classes, or None when none can be read here."""
    clips = task.train or tuple(clip for part in task.evals for clip in part.clips)
    return _read(task, clips, preprocess, frames, count)


def labelled(
    task: Task, preprocess: Preprocess, frames: int, count: int, *, tuned: bool
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """At most `count` clips of the training part to fit probabilities on, never test clips.

    They are clips that the model was not tuned on: validation clips and those that the shots left over; all of a model
    that is not tuned. Where these are fewer than 50, the tuned ones, on which a model is too sure, are taken as well.

    Returns:
        Clips uint8 (N, T, S, S, 3), the numbers of their classes int64 (N,) and a description; None: none can be read.
    """
    held_out = (*task.val, *task.unused, *(() if tuned else task.train))
    others = task.train if tuned and len(held_out) < _HELD_OUT else ()
    chosen = _spread((*held_out, *others), count)
    shown, kept = _readable(task, chosen, preprocess, frames)
    if not kept:
        return None
    number = {name: index for index, name in enumerate(task.classes)}
    known = {clip.id for clip in held_out}
    fresh = sum(clip.id in known for clip in kept)
    said = [f"{counted(fresh, 'clip')} of the training part that the model was not tuned on"] if fresh else []
    said += [f"{counted(len(kept) - fresh, 'clip')} that it was tuned on"] if len(kept) > fresh else []
    return np.stack(shown), np.array([number[str(clip.label)] for clip in kept]), " and ".join(said)


def anchors_of(task: Task, source: str, preprocess: Preprocess, frames: int, count: int) -> np.ndarray | None:
    """`count` anchor clips: those of the run, or, if it was tuned without anchors, those of its dataset (`source` as in
    the settings). None when there are none or they can't be read.
    """
    return _read(task, task.anchors or _unused_anchors(task, source), preprocess, frames, count)


def _unused_anchors(task: Task, source: str) -> tuple[Clip, ...]:
    classes = {name for part in task.evals for name in part.classes} | set(task.classes)
    try:
        return anchor_clips(source, Manifest.read(task.root), classes)
    except UserError:
        return ()


def _read(
    task: Task, clips: Sequence[Clip], preprocess: Preprocess, frames: int, count: int
) -> np.ndarray | None:
    shown, _ = _readable(task, _spread(clips, count), preprocess, frames)
    return np.stack(shown) if shown else None


def _readable(
    task: Task, clips: Sequence[Clip], preprocess: Preprocess, frames: int
) -> tuple[list[np.ndarray], list[Clip]]:
    """The clips that can be read, each uint8 (T, S, S, 3), and which they are; others are logged."""
    shown, kept = [], []
    rule = SamplingRule(frames=frames)
    for clip in clips:
        try:
            read, _ = clip_frames.read_clip(task.root, clip, rule, preprocess)
        except VideoError as error:
            _log.warning("left out: %s", error.message)
            continue
        shown.append(preprocess.frames(read))
        kept.append(clip)
    return shown, kept


def built_in(preprocess: Preprocess, frames: int, count: int) -> np.ndarray:
    """Stick-figure clips of successive classes: uint8 (count, T, S, S, 3)."""
    rule = SamplingRule(frames=frames)
    drawn = []
    for index in range(count):
        clip = render_clip(CLASSES[index % len(CLASSES)], seed=index)
        drawn.append(preprocess.frames(clip[sample_indices(len(clip), rule).ravel()]))
    return np.stack(drawn)


def read_clip(path: Path, preprocess: Preprocess, frames: int) -> np.ndarray:
    """One clip as the runtime reads it: uint8 (T, S, S, 3). Raises VideoError."""
    clip = sample_frames(path, SamplingRule(frames=frames), size=preprocess)
    return preprocess.frames(clip.frames)


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """`count` clips, one of each class before a second of any class."""
    seen: dict[str | None, int] = {}
    order = []
    for position, clip in enumerate(clips):
        seen[clip.label] = seen.get(clip.label, 0) + 1
        order.append((seen[clip.label], position))
    return [clips[position] for _, position in sorted(order)[:count]]


def calibration_clips(
    task: Task | None, files: Sequence[Path], preprocess: Preprocess, frames: int, count: int
) -> tuple[np.ndarray, str]:
    """The calibration clips and a description of their source: the files, else the task's clips, else stick figures."""
    if count < 1:
        raise UserError(f"an export needs at least one calibration clip, got {count}")
    if files:
        return from_files(files, preprocess, frames), "given files"
    own = from_task(task, preprocess, frames, count) if task else None
    if own is not None:
        return own, OWN_CLIPS
    return built_in(preprocess, frames, count), "built-in drawings"
