"""The training clips as examples, from which `method.teach` learns where the classes lie."""

import hashlib
import logging

import numpy as np

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import encode_clips
from ga2clip.data.manifest import Clip
from ga2clip.data.protocols import Task
from ga2clip.errors import UserError
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.card import MOST_TAUGHT
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.teaching import Example, Examples
from ga2clip.settings import Settings
from ga2clip.text import counted, printable

_log = logging.getLogger(__name__)


def check_examples(settings: Settings, task: Task) -> None:
    """Raises UserError, before anything trains, where there are more training clips than a bundle can hold."""
    if settings.method.teach and len(task.train) > MOST_TAUGHT:
        raise UserError(
            f"method.teach keeps the features of all {counted(len(task.train), 'training clip')}, "
            f"and can {MOST_TAUGHT:,}",
            "set method.teach=false, or train with fewer shots",
        )


def examples_of(model: VideoCLIP, task: Task, settings: Settings, group: Group) -> Examples:
    """The training clips with the features that the tuned model gives them, as it would a test clip; in every process.

    A clip that cannot be read is left out, and so is one whose content occurs under two classes.
    """
    single = settings.updated({"data": {"test_clips": 1, "test_crops": 1}}, "one view")
    _log.info("learning where the classes lie from %d training clips", len(task.train))
    encoded = encode_clips(model.eval(), task.train, single, group)
    features: dict[Example, np.ndarray] = {}
    labels: dict[str, set[str]] = {}
    for clip in task.train:
        if clip.id in encoded.features:
            example = Example(str(clip.label), "class", _sha256(clip))
            features[example] = normalise(encoded.features[clip.id][0].numpy())
            labels.setdefault(example.sha256, set()).add(example.label)
        else:
            _log.warning("not learned from: %s: %s", printable(clip.id), encoded.broken[clip.id])
    unclear = [example for example in features if len(labels[example.sha256]) > 1]
    if unclear:
        _log.warning("not learned from: %d clips with the same content under two classes", len(unclear))
    items = [example for example in features if example not in unclear]
    if not items:
        raise UserError("no training clip can be learned from", "prepare the dataset again")
    return Examples.sorted(items, np.stack([features[example] for example in items]))


def _sha256(clip: Clip) -> str:
    """Of the file's content, as `ga2clip teach` has it; of a part of a file, or without a hash, of its identity."""
    whole = clip.sha256 and clip.span is None
    return clip.sha256 if whole else hashlib.sha256(clip.identity.encode()).hexdigest()
