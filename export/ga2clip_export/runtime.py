"""The old place of the runtime, which is now `ga2clip.runtime`."""

from ga2clip.deprecation import warn_deprecated
from ga2clip.runtime import Predictor

__all__ = ["Predictor"]

warn_deprecated("ga2clip_export.runtime", "ga2clip.runtime")
