"""Weights of a run as files: permissions, links and full disks are treated as for any other file."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ga2clip.errors import UserError
from ga2clip.run import save_tensors

TENSORS = {"a": torch.arange(6.0)}


def test_weights_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    """safetensors makes a private file of its own, which others of a group could not read."""
    before = os.umask(0o027)
    try:
        save_tensors(tmp_path / "new.safetensors", TENSORS, {})
        (tmp_path / "old.safetensors").touch(0o600)
        save_tensors(tmp_path / "old.safetensors", TENSORS, {})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"new.safetensors": 0o640, "old.safetensors": 0o600}
    assert load_file(tmp_path / "old.safetensors")["a"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_link_stays_and_a_device_too(tmp_path: Path) -> None:
    (tmp_path / "link.safetensors").symlink_to("real.safetensors")
    save_tensors(tmp_path / "link.safetensors", TENSORS, {})
    assert (tmp_path / "link.safetensors").is_symlink()
    assert load_file(tmp_path / "real.safetensors")["a"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UserError, match="cannot write /dev/full: No space left on device"):
        save_tensors(Path("/dev/full"), TENSORS, {})
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
