"""Equal encoders are traced once for all tests: tracing is most of an export's time, and many tests export equal ones.

A tower's classes, settings and weights, the shapes and the operator set are what its graph depends on. A test whose
point is the tracing itself, or that changes code of the towers, does without.
"""

import hashlib
import io
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn

from ga2clip.model.part import Part
from ga2clip.model.video_clip import VideoCLIP
from ga2clip_export import graphs
from ga2clip_export.towers import FoldedPooling

_HOOKS = {"adapt_frames": "frame_features", "adapt_texts": "text_features"}


def _same(*given: Any) -> tuple[Any, ...]:
    """Stands for what was given, in pickled bytes that nothing reads back."""
    return given


class _Content(pickle.Pickler):
    """Writes equal modules as equal bytes: tensors by value, `adapt_…` of a model by the parts that act there."""

    def reducer_override(self, given: Any) -> Any:
        if isinstance(given, torch.Tensor):
            values = given.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return _same, (str(given.dtype), tuple(given.shape), hashlib.sha256(values).hexdigest())
        if isinstance(given, MethodType) and isinstance(given.__self__, VideoCLIP):
            hook = _HOOKS[given.__name__]
            parts = [p for p in given.__self__._in_order if getattr(type(p), hook) is not getattr(Part, hook)]
            return _same, (hook, parts)
        return NotImplemented


def _key(module: nn.Module, *others: Any) -> str:
    out = io.BytesIO()
    _Content(out).dump((type(module), module, others, graphs._MOST_INSIDE, graphs._LARGEST_FILE))
    return hashlib.sha256(out.getvalue()).hexdigest()


@contextmanager
def traced_once(folder: Path) -> Iterator[None]:
    """Exports inside keep traced encoders in `folder`, which processes may share, and take equal ones from there."""
    trace = graphs._export

    def export(module: Any, inputs: Any, outputs: Any, shapes: Any, path: Path, opset: int) -> None:
        if isinstance(module, FoldedPooling):  # small, and never the same
            return trace(module, inputs, outputs, shapes, path, opset)
        ranges = [
            (name, axis, dim.__name__, dim.min, dim.max)
            for name, axes in shapes.items()
            for axis, dim in axes.items()
        ]
        made = folder / _key(module.eval(), inputs, outputs, ranges, path.name, opset)
        if made.is_dir():
            for file in made.iterdir():
                shutil.copy(file, path.parent)
            return None
        trace(module, inputs, outputs, shapes, path, opset)
        unfinished = made.with_suffix(f".{os.getpid()}")
        unfinished.mkdir(parents=True)
        for file in path.parent.glob(f"{path.name}*"):
            shutil.copy(file, unfinished)
        try:
            unfinished.rename(made)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_export", export)
        yield
