"""Weight files: what is read, what is refused, and that every tensor must be accounted for."""

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ga2clip.errors import UserError
from ga2clip.model.load_backbone import backbone_from_weights, load_backbone
from ga2clip.model.weights import read_weights
from ga2clip.settings import BackboneSettings
from tests import layouts


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


def zip_of_zeros(path: Path) -> None:
    """A real checkpoint whose storage was replaced by zeros that compress a thousandfold."""
    torch.save({"state_dict": {"visual.proj": torch.zeros(1)}}, path)
    with zipfile.ZipFile(path) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, bytes(70 << 20) if "/data/0" in name else content)


def stride_of_zero(path: Path) -> None:
    """Four bytes that say they are four gigabytes."""
    torch.save({"visual.proj": torch.zeros(1).expand(1 << 15, 1 << 15)}, path)


def one_storage_for_many(path: Path) -> None:
    module = nn.Module()
    content = torch.zeros(1 << 20)
    for number in range(100):
        module.register_buffer(f"copy{number}", content)
    torch.jit.script(module).save(str(path))


@pytest.mark.parametrize("write", [zip_of_zeros, stride_of_zero, one_storage_for_many])
def test_a_file_that_would_fill_memory_is_refused_by_its_size(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt has \d\.\d MB and unpacks to [\d,]+ MB; refused"):
        load_backbone(BackboneSettings(pretrained=str(tmp_path / "bomb.pt")))


TINY = {"vision": {"width": 8, "layers": 1, "heads": 1}, "text": {"width": 8, "layers": 1, "heads": 1}}


@pytest.mark.parametrize(
    "write", [layouts.old_hub_folder, layouts.transformers_folder, layouts.openai_archive, layouts.ga2_start]
)
def test_damaged_files_load_or_are_refused(write: layouts.Writer, tmp_path: Path) -> None:
    """Cuts, flips and insertions near the ends, where containers keep what they are: nothing but a UserError."""
    config = layouts.model_config(TINY, quick_gelu=True)
    path = write(tmp_path, layouts.make_clip(TINY, quick_gelu=True), config)
    files = sorted(file for file in tmp_path.iterdir())
    draw = random.Random(0)
    refused = 0
    for turn in range(24):
        file = files[turn % len(files)]
        whole = file.read_bytes()
        near = draw.randrange(min(len(whole), 4000))
        place = near if turn % 4 < 2 else len(whole) - 1 - near
        damaged = (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :],
            whole[:place] + draw.randbytes(5) + whole[place:],
        )[turn % 3]
        file.write_bytes(damaged)
        try:
            load_backbone(BackboneSettings(pretrained=str(path)))
        except UserError:
            refused += 1
        file.write_bytes(whole)
    assert refused >= 12


def test_missing_and_unexpected_tensors_are_listed(clip_weights: dict[str, Any]) -> None:
    weights = {**clip_weights, "visual.extra": torch.zeros(1)}
    del weights["ln_final.bias"]
    with pytest.raises(UserError, match=r"missing: ln_final\.bias; unexpected: visual\.extra"):
        backbone_from_weights(weights, source="weights.pt", quick_gelu=True, head_width=64)


def test_a_file_with_its_config_gives_a_frozen_backbone(clip_file: Path) -> None:
    backbone = load_backbone(BackboneSettings(pretrained=str(clip_file)))
    sizes = (backbone.preprocess.size, backbone.vision.width, backbone.text.depth, backbone.embed_dim)
    assert sizes == (16, 64, 3, 32)
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-17", "openai", "unknown backbone"),
        ("ViT-B-16", "opanai", "unknown pretrained tag"),
        ("ViT-B-16", "builtin", "no built-in weights"),
        ("ViT-B-17", "builtin", "unknown backbone"),
        ("tiny", "openai", "built-in weights only"),
        ("", "openai", "needs the name of an architecture"),
        ("RN50", "nowhere.pt", "no weights file"),
    ],
)
def test_names_that_do_not_exist(name: str, pretrained: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_backbone(BackboneSettings(name=name, pretrained=pretrained))
    assert message == "no weights file" or caught.value.hint
