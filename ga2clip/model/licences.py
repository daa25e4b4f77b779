"""The licences of well-known published weights, as data.

A licence is that of the weights, not of open_clip. Those that are not listed are "as their publisher says". Whoever
passes on or sells something made with weights should read their licence itself.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

UNKNOWN = "as its publisher says"


class Licence(NamedTuple):
    """A licence and where it is stated."""

    name: str
    source: str


_OPEN_CLIP = "https://github.com/mlfoundations/open_clip/issues/177, of all weights that it publishes"
_APPLE_RESEARCH = "Apple ML research (non-commercial)"

_LISTED: tuple[tuple[str, str, Licence], ...] = (
    ("tiny", "builtin", Licence("MIT", "made by this project")),
    # Of the repository; of the weights OpenAI says no more, and its model card advises against deployed uses.
    ("*", "openai", Licence("MIT", "https://github.com/openai/CLIP/blob/main/LICENSE")),
    ("*", "yfcc15m", Licence("MIT", _OPEN_CLIP)),
    ("*", "cc12m", Licence("MIT", _OPEN_CLIP)),
    ("EVA0*", "*", Licence("MIT", "https://huggingface.co/QuanSun/EVA-CLIP")),
    ("*-CLIPA*", "*", Licence("Apache-2.0", "https://huggingface.co/UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B")),
    ("*SigLIP*", "webli", Licence("Apache-2.0", "https://huggingface.co/timm/ViT-B-16-SigLIP")),
    ("PE-Core-*", "meta", Licence("Apache-2.0", "https://huggingface.co/facebook/PE-Core-B16-224")),
    (
        "*",
        "metaclip*",
        Licence("CC-BY-NC-4.0", "https://github.com/facebookresearch/MetaCLIP/blob/main/LICENSE"),
    ),
    (
        "MobileCLIP*",
        "*",
        Licence(_APPLE_RESEARCH, "https://github.com/apple/ml-mobileclip/blob/main/LICENSE_MODELS"),
    ),
    # Until February 2025 these pages said Apple's sample code licence, which allows more: the later one counts here.
    (
        "*",
        "dfn*",
        Licence(_APPLE_RESEARCH, "https://huggingface.co/apple/DFN5B-CLIP-ViT-H-14-378/blob/main/LICENSE"),
    ),
    ("*", "datacomp_*", Licence("MIT", "https://huggingface.co/laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K")),
    ("*", "commonpool_*", Licence("MIT", "https://huggingface.co/laion/CLIP-ViT-B-16-CommonPool.L-s1B-b8K")),
    ("*", "laion*", Licence("MIT", _OPEN_CLIP)),
    ("*", "frozen_laion*", Licence("MIT", _OPEN_CLIP)),
    ("coca_*", "mscoco*", Licence("MIT", _OPEN_CLIP)),
)
"""Patterns of the architecture's name and of the tag, and the licence; the first that fits counts."""


def licence_of(name: str, tag: str) -> Licence:
    """The licence of the weights `tag` of an architecture; its name is `UNKNOWN` for what is not listed."""
    for names, tags, licence in _LISTED:
        if fnmatchcase(name, names) and fnmatchcase(tag, tags):
            return licence
    return Licence(UNKNOWN, "")
