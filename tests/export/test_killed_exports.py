"""What killed exports leave beside a bundle: the next export clears it away, and nothing else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ga2clip.folders import new_folder


@pytest.fixture
def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "video_encoder.onnx").write_bytes(b"half")
    return path


def test_leftovers_of_dead_processes_go_and_all_else_stays(tmp_path: Path, gone: int) -> None:
    left = [folder(tmp_path / f".bundle.{gone}"), folder(tmp_path / f".bundle.{os.getpid()}")]
    others = [
        folder(tmp_path / f".bundle.{os.getppid()}"),  # still at work
        folder(tmp_path / f".bundle-int8.{gone}"),
        folder(tmp_path / ".bundle.backup"),
        folder(tmp_path / f"bundle.{gone}"),
        folder(tmp_path / ".git"),
    ]
    with new_folder(tmp_path / "bundle") as work:
        assert not any(path.exists() for path in left if path != work)
        assert list(work.iterdir()) == []
        (work / "bundle.json").write_text("{}")
    assert all((path / "video_encoder.onnx").exists() for path in others)
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", *(path.name for path in others)}


def test_a_bundle_that_was_moved_aside_comes_back(tmp_path: Path, gone: int) -> None:
    """Killed between two renames: the new bundle is not there yet, the old one under a temporary name."""
    (folder(tmp_path / f".bundle.{gone}.old") / "bundle.json").write_text("old")
    with pytest.raises(RuntimeError, match="fails"), new_folder(tmp_path / "bundle"):
        raise RuntimeError("fails")
    assert (tmp_path / "bundle" / "bundle.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_numbers_that_no_process_can_have(tmp_path: Path) -> None:
    folder(tmp_path / f".bundle.{'9' * 30}")
    with new_folder(tmp_path / "bundle"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("place", ["middle", "renames"])
def test_sigterm_leaves_nothing(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the middle nor between the two renames, where the old bundle is not in its place."""
    (folder(tmp_path / "bundle") / "bundle.json").write_text("old")
    rename = Path.rename

    def terminate() -> None:
        assert callable(signal.getsignal(signal.SIGTERM))  # else this process would end
        os.kill(os.getpid(), signal.SIGTERM)

    def renamed(path: Path, other: Path) -> None:
        rename(path, other)
        if other.name.endswith(".old"):
            terminate()

    def write() -> None:
        with new_folder(tmp_path / "bundle") as work:
            (work / "video_encoder.onnx").write_bytes(b"half")
            if place == "middle":
                terminate()

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(SystemExit) as ended:
        write()
    assert ended.value.code == 143
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "bundle.json").read_text() == "old"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
