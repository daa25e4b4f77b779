"""Large files whose hash was right are known again by their identity, so that they are not read at every start.

A record is an empty note: its name is the hash of the path, the expected SHA-256 and the identity (device, inode,
size, and the times of the last change of content and of status). The status time can't be set, so a file that was
swapped or written to is hashed again, whatever its other times say. Records lie in a folder of the user's own cache
that nobody else may look into; a folder or record that is not the user's own counts for nothing. Where this can't be
had (a read-only home, a full disk, Windows), files are hashed every time.
"""

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ga2clip.files import file_sha256
from ga2clip.folders import user_cache

_log = logging.getLogger(__name__)
_LARGE = 8 * 2**20
"""Bytes; hashing less takes no longer than looking for a record."""
_SETTLED = 2_000_000_000
"""Nanoseconds. Clocks of file systems are coarse: a file that was written in the same tick as it was hashed would have
the same identity afterwards, so a younger file is not recorded."""


def records_folder() -> Path:
    """Where the records lie: `hashes` beside the features of class names."""
    return user_cache() / "hashes"


def has_sha256(path: Path, sha256: str, *, remember: bool) -> bool:
    """Whether a file has this SHA-256.

    Args:
        path: the file.
        sha256: 64 hexadecimal digits.
        remember: trust and keep records of large files; else the file is read.

    Raises:
        OSError: the file can't be read.
    """
    before = path.stat()
    remember = remember and before.st_size >= _LARGE
    started = time.time_ns()
    if remember and _is_recorded(_record(path, sha256, before)):
        return True
    if file_sha256(path) != sha256:
        return False
    record = _record(path, sha256, before)
    settled = started - max(before.st_ctime_ns, before.st_mtime_ns) > _SETTLED
    if remember and settled and _record(path, sha256, path.stat()) == record:
        _keep(record)
    return True


def forget_files() -> int:
    """Delete all records; returns their number. Raises OSError when one can't be deleted."""
    records = [path for path in records_folder().glob("*") if not path.is_dir()]
    for path in records:
        path.unlink(missing_ok=True)
    return len(records)


def _record(path: Path, sha256: str, status: os.stat_result) -> str:
    """The name of a file's record."""
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(json.dumps([os.path.realpath(path), sha256, *identity]).encode()).hexdigest()


def _is_recorded(record: str) -> bool:
    with suppress(OSError), _own_folder(make=False) as folder:
        status = os.stat(record, dir_fd=folder, follow_symlinks=False)
        return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    return False


def _keep(record: str) -> None:
    try:
        with _own_folder(make=True) as folder:
            os.close(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder))
    except OSError as error:
        _log.debug("large files are hashed each time: %s", error)


@contextmanager
def _own_folder(*, make: bool) -> Iterator[int]:
    """A descriptor of the folder of records. Raises OSError unless it is the user's and closed to all others."""
    if os.name != "posix":
        raise OSError("the owner of a folder can't be told here")
    try:
        path = records_folder()
    except RuntimeError as error:  # a container's user may have no home
        raise OSError(str(error)) from None
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"{path} is not a private folder of this user")
        yield folder
    finally:
        os.close(folder)
