"""The summary that is shown before the first update: trained parameters, data, number of updates, estimated cost."""

import re
from collections.abc import Iterable

from torch import nn

from ga2clip.data.protocols import Task
from ga2clip.descriptions import said
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.settings import Settings
from ga2clip.text import counted
from ga2clip.training.estimate import Cost
from ga2clip.training.loop import Plan


def describe(model: VideoCLIP, task: Task, plan: Plan, cost: Cost | None, where: str) -> str:
    """The summary of a training, with the estimated cost if there is one. where: the devices."""
    settings = model.settings
    trained = model.trainable_parameters()
    count = sum(p.numel() for p in trained.values())
    frozen = sum(p.numel() for p in model.parameters()) - count
    anchors = f", {counted(len(task.anchors), 'anchor clip')}" if settings.anchors.needs_videos else ""
    if anchors and settings.anchors.every > 1:
        anchors += f" in one of {settings.anchors.every} updates"
    rows = [
        (
            "method",
            f"{settings.method.name} on {model.backbone.name} (licence of the backbone: {model.backbone.licence})",
        ),
        ("trains", counted(count, "parameter")),
        *(("", line) for line in _tensors(trained)),
        ("frozen", counted(frozen, "parameter")),
        *([] if model.independent_frames else [("frames", "attend to their neighbours in the clip")]),
        *([("learns", "its classes from the training clips, at the end")] if settings.method.teach else []),
        ("loss", " + ".join(f"{weight:g} · {term.name}" for term, weight in model.loss_terms.items())),
        ("data", task.rule),
        (
            "",
            f"{counted(len(task.train), 'clip')} of {counted(len(task.classes), 'class')}, "
            f"{counted(settings.data.frames, 'frame')} each{anchors}",
        ),
        *([("texts", _texts(settings, task))] if settings.descriptions else []),
        (
            "steps",
            f"{counted(plan.epochs, 'epoch')} of {counted(plan.steps_per_epoch, 'update')}, "
            f"{counted(settings.training.batch_size, 'clip')} each",
        ),
        ("device", where),
    ]
    if cost is not None:
        # With cached features the vision tower runs once per clip, not in every update.
        cached = settings.training.cache_features and model.features_suffice
        seconds = (cost.text_seconds if cached else cost.seconds) * plan.steps
        left_out = "loading and encoding each clip once" if cached else "loading"
        needs = f"{duration(seconds)} without {left_out}, {cost.bytes / 2**30:.1f} GiB of memory"
        rows.append(("estimate", needs))
    return "\n".join(f"{head:<10}{text}".rstrip() for head, text in rows)


def _texts(settings: Settings, task: Task) -> str:
    texts = said(settings.descriptions)
    if not settings.method.linear_probe:
        return texts
    rows = counted(len(task.classes), "trained class")
    return f"{texts}; without effect on the {rows}, which have rows of their own in a linear probe"


def duration(seconds: float) -> str:
    """Seconds as `40 s`, `12 min`, `3.5 h` or `9 days`."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _tensors(parameters: dict[str, nn.Parameter]) -> Iterable[str]:
    """One line per kind of tensor; names that only differ in a number are grouped."""
    kinds: dict[tuple[str, tuple[int, ...]], int] = {}
    for name, parameter in parameters.items():
        key = (re.sub(r"\b\d+\b", "*", name), tuple(parameter.shape))
        kinds[key] = kinds.get(key, 0) + 1
    for (name, shape), number in kinds.items():
        yield f"{name} {' × '.join(map(str, shape)) or 'one number'}" + (
            f"  ({number} of them)" if number > 1 else ""
        )
