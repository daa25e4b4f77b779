"""Names that are chosen from, where what they stand for is too heavy to load for a help text; those of settings stand
in `settings.py`, those of registries come from them.
"""

from typing import Literal

DEVICES = ("auto", "cpu", "cuda", "cuda:N")
"""Where torch computes."""

PROVIDERS = ("auto", "cpu", "cuda", "tensorrt", "openvino")
"""What computes a bundle; `cuda:N` names one GPU of several."""

BundlePrecision = Literal["fp32", "fp16", "int8"]
ExportPrecision = Literal[BundlePrecision, "auto"]
