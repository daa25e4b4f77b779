"""A lock file for one writer at a time; the system releases it when the process ends, even by a kill."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ga2clip.errors import UserError
from ga2clip.files import write_error


@contextmanager
def locked(path: Path, busy: UserError) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; the file is created if it is missing.

    Raises:
        UserError: `busy`, if another process holds the lock; or the file can't be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        if not _lock(file):
            raise busy
        yield


def _lock(file: TextIO) -> bool:
    """Try to lock; False if another process holds the lock. True also if the file system doesn't support locks.

    The locks belong to the process: children don't inherit them, so they can't hold them longer.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True
