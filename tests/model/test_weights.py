"""Weight files: what is read, what is refused, and that every tensor must be accounted for."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ga2clip.errors import UserError
from ga2clip.model.load_backbone import backbone_from_weights, load_backbone
from ga2clip.model.weights import read_weights
from ga2clip.settings import BackboneSettings


class Leaf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3).half())
        self.register_buffer("size", torch.tensor(224))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Tree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Leaf()
        self.scale = nn.Parameter(torch.tensor(4.6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual(x)


def test_torchscript_archive_gives_its_tensors_without_running_it(tmp_path: Path) -> None:
    module = Tree()
    torch.jit.script(module).save(str(tmp_path / "openai.pt"))
    weights = read_weights(tmp_path / "openai.pt")
    expected = module.state_dict()
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value)
        assert weights[name].dtype == value.dtype


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.pt"
    if zipped:
        torch.save({"model_state_dict": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps({"model_state_dict": Bomb()}))
    with pytest.raises(UserError, match="could run code"):
        read_weights(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_other_files_are_an_error_that_names_them(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"weights{suffix}"):
        read_weights(path)


def test_a_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "ViT-B-16.pt").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / "ViT-B16.pt")
    assert "ViT-B-16.pt" in str(caught.value.hint)


def test_missing_and_unexpected_tensors_are_listed(clip_weights: dict[str, Any]) -> None:
    weights = {**clip_weights, "visual.extra": torch.zeros(1)}
    del weights["ln_final.bias"]
    with pytest.raises(UserError, match=r"missing: ln_final\.bias; unexpected: visual\.extra"):
        backbone_from_weights(weights, source="weights.pt")


def test_a_file_of_openai_weights_gives_its_sizes(clip_file: Path) -> None:
    backbone = load_backbone(BackboneSettings(name="ViT-B-16", pretrained=str(clip_file)))
    assert (backbone.preprocess.size, backbone.vision.width, backbone.text.depth, backbone.embed_dim) == (
        16,
        64,
        3,
        32,
    )
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-17", "openai", "unknown backbone"),
        ("ViT-B-16", "opanai", "unknown pretrained tag"),
        ("ViT-B-16", "builtin", "no built-in weights"),
        ("RN50", "nowhere.pt", "no weights file"),
    ],
)
def test_names_that_do_not_exist(name: str, pretrained: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_backbone(BackboneSettings(name=name, pretrained=pretrained))
    assert message == "no weights file" or caught.value.hint
