"""The only module that imports ONNX Runtime: telemetry off, and a log of errors only."""

from ga2clip.runtime.telemetry import OFF  # isort: skip  (sets what the library reads when it loads)
import onnxruntime

_ERRORS_ONLY = 3

if OFF:
    # What is left where it was loaded before us, or reports through the system's tracing (Windows).
    onnxruntime.disable_telemetry_events()
onnxruntime.set_default_logger_severity(_ERRORS_ONLY)

__all__ = ["onnxruntime"]
