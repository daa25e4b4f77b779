"""Fixtures for all rooms: a random CLIP small enough for thousands of steps, and its weights on disk."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if threading.current_thread() is threading.main_thread():
    # A shell that starts the tests in the background lets them ignore Ctrl-C; commands that they start must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; one thread each


CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 3},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
}


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test draws the same numbers whatever ran before it; one that does without torch doesn't load it for that."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def clip_weights() -> dict[str, "object"]:
    """The state dict of a random CLIP in OpenAI's naming: 16 px, patch 8, width 64, 3 + 3 blocks, D = 32."""
    import open_clip
    import torch

    torch.manual_seed(0)
    clip = open_clip.CLIP(**CLIP_CONFIG, quick_gelu=True)
    return dict(clip.state_dict())


@pytest.fixture(scope="session")
def clip_file(clip_weights: dict[str, "object"], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random CLIP's weights and its config as files that `--pretrained` takes."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file(clip_weights, path)
    path.with_suffix(".json").write_text(json.dumps({**CLIP_CONFIG, "quick_gelu": True}))
    return path


@pytest.fixture
def make_backbone(clip_weights: dict[str, "object"]) -> Callable[[], "object"]:
    """A function that builds a fresh random CLIP backbone (always the same weights)."""
    from ga2clip.model.load_backbone import backbone_from_weights

    return lambda: backbone_from_weights(clip_weights, source="random", quick_gelu=True, head_width=64)
