"""Versions, machine and command line of a run, for its `environment.json`."""

import platform
import sys
from importlib import metadata
from typing import Any

_PACKAGES = ("ga2clip", "torch", "torchvision", "open_clip_torch", "numpy", "av", "pillow", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, machine and command line of this process, as JSON."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if cuda
        else ["cpu"],
        "cuda": torch.version.cuda if cuda else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
