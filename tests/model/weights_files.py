"""Weights files of a small plain CLIP: loading them, the configs beside them, and what a refusal says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.load_backbone import load_backbone
from ga2clip.settings import BackboneSettings
from tests import layouts

NAME = "small-clip"
INCEPTION = (0.5, 0.5, 0.5)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def load(path: Path, **words: Any) -> Backbone:
    return load_backbone(BackboneSettings(pretrained=str(path), **words))


def refusal(path: Path, **words: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **words)
    return f"{caught.value.message}\n{caught.value.hint}"


def write_config(folder: Path, content: Any, name: str = "open_clip_config.json") -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def config(quick_gelu: bool = False, **vision: Any) -> dict[str, Any]:
    found = layouts.model_config(layouts.PLAIN, quick_gelu)
    return {**found, "vision_cfg": {**found["vision_cfg"], **vision}}
