"""One writer at a time in a folder: a lock that the system gives back when its process dies, however."""

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
    """Hold the lock file `path`, which is made if it is missing, while the block runs.

    Raises:
        UserError: `busy`, when another process holds it; or the file can't be made.
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
    """False when another process has locked the file; True also where the file system knows no locks.

    These locks are the process's own: its children do not inherit them and can't hold them longer.
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
