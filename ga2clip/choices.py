"""Names that are chosen from, where what they stand for is too heavy to load for a help text; those of settings stand
in `settings.py`, those of registries come from them.
"""

import re
from typing import Literal

from ga2clip.errors import unknown_name

DEVICES = ("auto", "cpu", "cuda", "cuda:N")
"""Where to compute."""

PROVIDERS = ("auto", "cpu", "cuda", "tensorrt", "openvino")
"""What computes a bundle; `cuda:N` names one GPU of several."""

TABLE_SUFFIXES = {"text": ".txt", "markdown": ".md", "csv": ".csv", "latex": ".tex"}
"""The formats of tables, and how a file of each ends."""

BundlePrecision = Literal["fp32", "fp16", "int8"]
ExportPrecision = Literal[BundlePrecision, "auto"]

ResizeMode = Literal["shortest", "squash", "longest"]
Interpolation = Literal["bicubic", "bilinear"]
"""Of frames; `ga2clip.video.Preprocess` says what they do."""

ScoringRule = Literal["softmax", "sigmoid"]
"""How logits become probabilities; `ga2clip.runtime.scoring` says how."""

Cleaning = Literal["clip", "whitespace", "canonicalize"]
"""How a text is cleaned before it is split, as in open_clip (which calls the first one `lower`). All of them repair
encoding errors (ftfy), unescape HTML twice and join whitespace. `clip` also lower-cases; `canonicalize` turns
underscores into blanks, removes ASCII punctuation and lower-cases (big_vision, for SigLIP); `whitespace` keeps both."""


def is_gpu(provider: str) -> bool:
    """Whether an obtained provider, one of `PROVIDERS` or `cuda:N`, computes on a GPU."""
    return provider.startswith(("cuda", "tensorrt"))


def check_device(name: str) -> None:
    """Raises UserError for a name that is none of `DEVICES`; whether the machine has it is not asked."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise unknown_name("device", name, DEVICES)


STILL = 1.0
"""From which change of pixels on (of 255, the mean of a block) a frame is encoded anew; in proportion less in frames of
low contrast. Windows of 8 frames mostly stay within 0.01 of `--still 0`; where they don't: docs/benchmarks.md, "Frames
that do not change".
"""
