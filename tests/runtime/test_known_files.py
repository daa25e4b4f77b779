"""Files that were whole before are not read again; a changed file and somebody else's record are."""

import os
import shutil
import threading
from importlib import resources
from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime import known_files
from ga2clip.runtime.bundle import open_bundle
from ga2clip.runtime.bundle_model import BundleModel

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files are hashed every time here")
BUNDLE = Path(str(resources.files("ga2clip.assets"))) / "tiny" / "bundle"
CONTENT = b"weights" * 100


@pytest.fixture
def reads(monkeypatch, tmp_path) -> list[Path]:
    """The files that were hashed."""
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(known_files, "file_sha256", counted)
    monkeypatch.setattr(known_files, "_LARGE", 1)
    monkeypatch.setattr(known_files, "_SETTLED", -1)
    monkeypatch.setenv("GA2CLIP_CACHE", str(tmp_path / "cache"))
    return read


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def has(path: Path, sha256: str) -> bool:
    return known_files.has_sha256(path, sha256, remember=True)


def test_a_file_is_read_once_and_again_when_it_is_asked_for(file, reads) -> None:
    sha256 = file_sha256(file)
    assert has(file, sha256)
    assert has(file, sha256)
    assert len(reads) == 1
    assert not has(file, "0" * 64)  # known to have another hash than this one
    assert len(reads) == 2
    assert known_files.has_sha256(file, sha256, remember=False)
    assert len(reads) == 3
    assert known_files.forget_files() == 1
    assert has(file, sha256)
    assert len(reads) == 4


@pytest.mark.parametrize("how", ["in place", "swapped", "another file's name"])
def test_a_file_of_the_same_size_and_time_with_other_content_is_noticed(file, reads, how) -> None:
    sha256, status = file_sha256(file), file.stat()
    assert has(file, sha256)
    other = file.with_name("other")
    other.write_bytes(CONTENT[::-1])
    if how == "in place":
        with file.open("r+b") as opened:
            opened.write(CONTENT[::-1])
    elif how == "swapped":
        os.replace(other, file)
    else:
        file.unlink()
        file.symlink_to(other)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not has(file, sha256)


def test_a_file_that_was_just_written_is_not_recorded(file, reads, monkeypatch) -> None:
    monkeypatch.setattr(known_files, "_SETTLED", 60 * 10**9)
    sha256 = file_sha256(file)
    assert has(file, sha256)
    assert has(file, sha256)
    assert len(reads) == 2


def _open_to_others(folder: Path) -> None:
    folder.chmod(0o777)


def _a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def _records_are_links(folder: Path) -> None:
    for record in folder.iterdir():
        record.unlink()
        record.symlink_to("/dev/null")


@pytest.mark.parametrize("poisoned", [_open_to_others, _a_link, _records_are_links])
def test_records_that_others_may_have_made_count_for_nothing(file, reads, poisoned) -> None:
    sha256 = file_sha256(file)
    assert has(file, sha256)
    folder = known_files.records_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]
    poisoned(folder)
    assert has(file, sha256)
    assert len(reads) == 2


def test_somebody_elses_folder_counts_for_nothing(file, reads, monkeypatch) -> None:
    sha256 = file_sha256(file)
    assert has(file, sha256)
    monkeypatch.setattr(known_files.os, "geteuid", lambda: 12345)
    assert has(file, sha256)
    assert len(reads) == 2


@pytest.mark.parametrize("cause", ["no home", "a file in the way", "a full disk"])
def test_without_a_place_for_records_files_are_hashed_each_time(
    file, reads, monkeypatch, tmp_path, cause
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    if cause == "no home":
        monkeypatch.delenv("GA2CLIP_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif cause == "a file in the way":
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.setattr(known_files.Path, "mkdir", full)
    sha256 = file_sha256(file)
    assert has(file, sha256)
    assert has(file, sha256)
    assert len(reads) == 2


def test_many_at_once(file, reads) -> None:
    sha256, right = file_sha256(file), []
    threads = [threading.Thread(target=lambda: right.append(has(file, sha256))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8
    assert len(list(known_files.records_folder().iterdir())) == 1


def test_a_bundle_is_hashed_once_by_predictions_and_always_by_info(reads) -> None:
    for _ in range(2):
        BundleModel(BUNDLE).close()
    names = [path.name for path in reads]
    assert names.count("video_encoder.onnx") == 1
    BundleModel(BUNDLE, cache=False).close()
    open_bundle(BUNDLE).verify()
    names = [path.name for path in reads]
    assert names.count("video_encoder.onnx") >= 3


def test_a_damaged_bundle_is_refused_after_it_was_known(reads, tmp_path) -> None:
    copy = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    BundleModel(copy).close()
    path = copy / "video_encoder.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    status = path.stat()
    path.write_bytes(bytes(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match="damaged"):
        BundleModel(copy)
