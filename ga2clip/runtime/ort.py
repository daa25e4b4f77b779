"""The one place that loads ONNX Runtime: without its telemetry, and with nothing of it on stdout.

The wheels of ONNX Runtime 1.31 keep a device id and a queue of events (processor, system, path of Python) in the
user's cache folder, which longer processes send to Microsoft; `Privacy.md` inside the wheel says so. The
variable below turns it off when it is set before the library loads; what the user has set in it counts, so
`ORT_DISABLE_TELEMETRY=0` turns it on.
"""

import os

TELEMETRY = "ORT_DISABLE_TELEMETRY"
_ERRORS_ONLY = 3

_off = os.environ.setdefault(TELEMETRY, "1") != "0"

import onnxruntime  # noqa: E402  (the variable must stand first)

if _off:
    # What else the library would report where it was loaded before us, or on Windows through the system's tracing.
    onnxruntime.disable_telemetry_events()
onnxruntime.set_default_logger_severity(_ERRORS_ONLY)

__all__ = ["TELEMETRY", "onnxruntime"]
