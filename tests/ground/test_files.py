"""Files are written whole or not at all, whatever their names, places and permissions are."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.files import open_append, replacing, sync_tree, system_error, write_text

linux = pytest.mark.skipif(sys.platform != "linux", reason="devices and /dev/fd")
UMASK = 0o027


@pytest.fixture
def umask() -> None:
    before = os.umask(UMASK)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_error_leaves_the_old_version_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".txt")
    write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_file_in_the_way_of_a_folder_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        write_text(tmp_path / "folder", "x")


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: None) -> None:
    write_text(tmp_path / "a.txt", "x")
    assert mode(tmp_path / "a.txt") == 0o666 & ~UMASK
    with replacing(tmp_path / "b.txt") as temporary:  # as libraries do that make a private file of their own
        temporary.unlink()
        temporary.touch(0o600)
    assert mode(tmp_path / "b.txt") == 0o666 & ~UMASK


@pytest.mark.parametrize("before", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_permissions(tmp_path: Path, umask: None, before: int) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    path.chmod(before)
    write_text(path, "new")
    assert (path.read_text(), mode(path)) == ("new", before)


@linux
def test_a_file_keeps_its_owner_where_that_is_allowed(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files to others")
    path = tmp_path / "a.txt"
    path.touch()
    os.chown(path, 12345, 12345)
    write_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


@linux
def test_a_file_that_may_not_be_written_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, how: False)  # root may write everywhere
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError, match="Permission denied"):
        write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize("exists", [True, False])
def test_what_a_link_points_at_is_replaced(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "links").mkdir()
    target, link = tmp_path / "data" / "a.txt", tmp_path / "links" / "b.txt"
    if exists:
        target.write_text("old")
        target.chmod(0o600)
    link.symlink_to("../data/a.txt")
    (tmp_path / "second").symlink_to(link)
    write_text(tmp_path / "second", "new")
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target.read_text() == "new"
    assert not target.is_symlink()
    if exists:
        assert mode(target) == 0o600


def test_links_in_a_circle_are_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "a", "x")


@linux
def test_a_device_stays_one(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "null"):
        with replacing(path) as temporary:
            assert not str(temporary).startswith("/dev")  # even a writer that replaces its file does no harm
            temporary.unlink()
            temporary.write_text("gone")
        assert stat.S_ISCHR(path.stat().st_mode)
    assert (tmp_path / "null").is_symlink()


@linux
def test_a_full_device_is_said_with_what_to_do() -> None:
    with pytest.raises(UserError, match="cannot write /dev/full: No space left on device") as caught:
        write_text(Path("/dev/full"), "x")
    assert "free some space" in (caught.value.hint or "")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@linux
def test_a_named_pipe_gets_the_text(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "through\n" * 50_000)  # more than a pipe holds at once
    reader.join(30)
    assert got == ["through\n" * 50_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@linux
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_is_where_python_writes_to(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    script = (
        "import sys; from pathlib import Path; from ga2clip.files import write_text\n"
        "print('before'); write_text(Path(sys.argv[1]), 'text\\n'); print('after')"
    )
    before = os.lstat("/dev/stdout")
    out = tmp_path / "out.txt"
    with out.open("w") as file:  # a regular file behind a descriptor is not renamed away under it
        subprocess.run([sys.executable, "-c", script, name], stdout=file, cwd=tmp_path, check=True)
    assert out.read_text() == "before\ntext\nafter\n"
    piped = subprocess.run(
        [sys.executable, "-c", script, name], capture_output=True, cwd=tmp_path, check=True
    )
    assert piped.stdout == b"before\ntext\nafter\n"
    assert os.lstat("/dev/stdout").st_ino == before.st_ino


@linux
def test_a_closed_descriptor_is_a_users_error() -> None:
    with pytest.raises(UserError, match="cannot write /dev/fd/987"):
        write_text(Path("/dev/fd/987"), "x")


def test_data_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "a.txt", []
    fsync, replace = os.fsync, os.replace

    def note_fsync(number: int) -> None:
        calls.append(("fsync", stat.S_ISDIR(os.fstat(number).st_mode)))
        fsync(number)

    def note_replace(old: Path, new: Path) -> None:
        calls.append(("replace", new == path))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text(path, "x")
    folder = [] if sys.platform == "win32" else [("fsync", True)]
    assert calls == [("fsync", False), ("replace", True), *folder]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").touch()
    calls.clear()
    sync_tree(tmp_path / "b")
    assert calls == [("fsync", False), *folder]


def test_a_disk_that_fails_on_flushing_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_leave_one_version(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [f"{number}" * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


@linux
def test_full_disks_are_known_by_what_libraries_say(tmp_path: Path) -> None:
    """NumPy and safetensors have the system's error in their texts alone."""
    with pytest.raises(OSError, match="requested") as numpys:
        np.zeros(10_000).tofile("/dev/full")
    assert numpys.value.errno is None
    for error in (
        numpys.value,
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[ONNXRuntimeError] : write failed: No space left on device"),
    ):
        found = system_error(error)
        assert found is not None
        assert found.errno == errno.ENOSPC
    assert system_error(ValueError("no such thing")) is None


@linux
def test_nothing_is_left_to_fail_on_closing() -> None:
    file = open_append(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x")
    file.close()
