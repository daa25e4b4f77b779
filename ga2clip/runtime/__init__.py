"""Names the actions in videos with an exported bundle (or another model behind `ClipModel`), without torch.

from ga2clip.runtime import Predictor
with Predictor("bundle") as predictor:
    print(predictor.predict("clip.mp4", top=5).predictions)
"""

from ga2clip.predictions import Failure, Prediction
from ga2clip.runtime import telemetry as telemetry  # off, also for a program that loads ONNX Runtime itself
from ga2clip.runtime.bundle import Bundle, is_bundle, open_bundle
from ga2clip.runtime.calibration import Coverage, MultiLabel
from ga2clip.runtime.card import BundleCard
from ga2clip.runtime.model import ClipModel
from ga2clip.runtime.predictor import Predictor
from ga2clip.runtime.scoring import NONE_LABEL

__all__ = [
    "NONE_LABEL",
    "Bundle",
    "BundleCard",
    "ClipModel",
    "Coverage",
    "Failure",
    "MultiLabel",
    "Prediction",
    "Predictor",
    "is_bundle",
    "open_bundle",
]
