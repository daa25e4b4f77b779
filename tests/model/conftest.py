"""Weights files of a small plain CLIP, with and without something that says what they are."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests import layouts
from tests.model.weights_files import INCEPTION, NAME, config


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict that says nothing of itself; a plain CLIP with heads of 64."""
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file(layouts.make_clip(layouts.PLAIN, quick_gelu=False).state_dict(), path)
    return path


@pytest.fixture
def beside(weights: Path, tmp_path: Path) -> Path:
    """The same weights in a folder where a test may put configs."""
    (tmp_path / "clip.safetensors").symlink_to(weights)
    return tmp_path


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip knows the small CLIP under a name, and two published weights of it."""
    from open_clip import factory, pretrained

    monkeypatch.setattr(factory, "_MODEL_CONFIGS", {**factory._MODEL_CONFIGS, NAME: config()})
    plain = dict(pretrained._pcfg(hf_hub="x/y"))
    tags = {"gelu": plain, "quick": plain | {"quick_gelu": True, "mean": INCEPTION, "std": INCEPTION}}
    monkeypatch.setitem(pretrained._PRETRAINED, NAME, tags | {"squash": plain | {"resize_mode": "squash"}})
