"""Content goes in, a complete file comes out, or none: everything is written beside its place and renamed.

Torch-free. A reader never sees half a file, and a full disk leaves the previous version whole.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ga2clip.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`, renamed to it when the block ends without an error.

    The folder is made if it is missing. The temporary name keeps the suffix, since writers look at it.
    Errors: UserError for a full disk, a read-only folder or any other refusal of the system.
    """
    # Cut, since a name may have 255 bytes and a stem may take them all.
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}{path.suffix[-20:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):  # nothing was made where the folder could not be
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all. Errors: UserError, as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits. Errors: OSError when it can't be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_error(path: Path, error: OSError) -> UserError:
    """The error for a file that cannot be written; it says what to do about a full disk."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = (
        "free some space on that disk and start again; what was there before is still whole" if full else None
    )
    return UserError(f"cannot write {path}: {error.strerror or error}", hint)
