"""Turns off ONNX Runtime's telemetry when `ga2clip.runtime` is imported.

The wheels of ONNX Runtime 1.31 keep a device id and a queue of events (processor, system, path of Python) in the user's
cache folder and send them to Microsoft from processes that run long enough; see `Privacy.md` in the wheel. The
environment variable turns this off if it is set before the library loads. A value that the user has set is kept:
`ORT_DISABLE_TELEMETRY=0` leaves telemetry on.
"""

import os

VARIABLE = "ORT_DISABLE_TELEMETRY"
OFF = os.environ.setdefault(VARIABLE, "1") != "0"
