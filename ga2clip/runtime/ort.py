"""The one place that loads ONNX Runtime: without its telemetry, and with nothing but errors in its log."""

from ga2clip.runtime.telemetry import OFF  # isort: skip  (sets what the library reads when it loads)
import onnxruntime

_ERRORS_ONLY = 3

if OFF:
    # What is left where it was loaded before us, or reports through the system's tracing (Windows).
    onnxruntime.disable_telemetry_events()
onnxruntime.set_default_logger_severity(_ERRORS_ONLY)

__all__ = ["onnxruntime"]
