"""Adapt CLIP to video action recognition with a few clips per class, and predict without torch.

The names in `__all__` are the public API; everything else may change. Each is imported on first use, so that
`import ga2clip` is quick and needs no torch.
"""

from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ga2clip.api import read_frames, train
    from ga2clip.evaluation.evaluate import evaluate_run as evaluate
    from ga2clip.evaluation.open_predictor import open_predictor
    from ga2clip.interop import load_published
    from ga2clip.registry import BACKBONES, DATASETS, LOGGERS, PARTS, TERMS
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.embed import embed, read_features
    from ga2clip.runtime.teach import teach
    from ga2clip_export.export import export_run as export

    __version__: str
    register_part, register_term = PARTS.register, TERMS.register
    register_backbone, register_dataset = BACKBONES.register, DATASETS.register
    register_logger = LOGGERS.register

__all__ = [
    "Predictor",
    "__version__",
    "embed",
    "evaluate",
    "export",
    "load_published",
    "open_predictor",
    "read_features",
    "read_frames",
    "register_backbone",
    "register_dataset",
    "register_logger",
    "register_part",
    "register_term",
    "teach",
    "train",
]

_WHERE = {
    "Predictor": "ga2clip.runtime:Predictor",
    "embed": "ga2clip.runtime.embed:embed",
    "evaluate": "ga2clip.evaluation.evaluate:evaluate_run",
    "export": "ga2clip_export.export:export_run",
    "load_published": "ga2clip.interop:load_published",
    "open_predictor": "ga2clip.evaluation.open_predictor:open_predictor",
    "read_features": "ga2clip.runtime.embed:read_features",
    "read_frames": "ga2clip.api:read_frames",
    "register_backbone": "ga2clip.registry:BACKBONES.register",
    "register_dataset": "ga2clip.registry:DATASETS.register",
    "register_logger": "ga2clip.registry:LOGGERS.register",
    "register_part": "ga2clip.registry:PARTS.register",
    "register_term": "ga2clip.registry:TERMS.register",
    "teach": "ga2clip.runtime.teach:teach",
    "train": "ga2clip.api:train",
}

if not TYPE_CHECKING:  # a type checker would take any name for a valid one

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version  # slow to load, and seldom asked for

            return version("ga2clip")
        if name not in _WHERE:
            raise AttributeError(f"module 'ga2clip' has no attribute '{name}'")
        module, _, path = _WHERE[name].partition(":")
        value = globals()[name] = attrgetter(path)(import_module(module))
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
