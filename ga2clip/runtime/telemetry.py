"""ONNX Runtime's telemetry is off, from the import of `ga2clip.runtime` on.

The wheels of ONNX Runtime 1.31 keep a device id and a queue of events (processor, system, path of Python) in the
user's cache folder, which longer processes send to Microsoft; `Privacy.md` inside the wheel says so. The
variable turns that off when it is set before the library loads. What the user has set in it counts, so
`ORT_DISABLE_TELEMETRY=0` turns it on.
"""

import os

VARIABLE = "ORT_DISABLE_TELEMETRY"
OFF = os.environ.setdefault(VARIABLE, "1") != "0"
