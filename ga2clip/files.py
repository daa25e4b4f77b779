"""Writing files: whole or not at all, through links and into devices, with the permissions that a user expects.

Torch-free. A file is written under a temporary name, flushed to the disk and renamed, so that a reader never sees
half of it, and neither a kill, a full disk nor a power failure loses the previous version.
"""

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ga2clip.errors import UserError

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)|/dev/(stdin|stdout|stderr)")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
_MOST_LINKS = 40  # as many as Linux follows
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_SHORT_WRITE = re.compile(r"^\d+ requested and \d+ written")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; when the block ends without an error, `path` holds what was written.

    The folder of `path` is made if it is missing. A symbolic link is followed: what it points at is replaced. A
    file keeps its permissions (and its owner, where that is allowed), a new one gets those of the umask, whatever
    the writer did. A device, a pipe or a descriptor (`/dev/stdout`, `/dev/fd/N`) is written into at the end. The
    temporary name keeps the suffix, since writers look at it; it can be written and read at any position.

    Raises:
        UserError: a full disk, a read-only file or folder, or any other refusal of the system, from whatever
            library it comes.
    """
    try:
        target = _target(path)
        with _through(target) if is_stream(target) else _renamed(target) as temporary:
            yield temporary
    except UserError:
        raise
    except Exception as error:
        if system := system_error(error):
            raise write_error(path, system) from error
        raise


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    """A temporary name beside a file, renamed to it in the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    before = _replaceable(target)
    temporary, mode = _new_file(target)
    try:
        yield temporary
        sync(temporary)
        _take_permissions(temporary, before, mode)
        os.replace(temporary, target)
        sync(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _through(stream: Path) -> Iterator[Path]:
    """A temporary file elsewhere, copied into a device, a pipe or a descriptor in the end."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, f"out{stream.suffix[-20:]}")
        temporary.touch()
        yield temporary
        with temporary.open("rb") as written:
            opened = open_stream(stream)
            try:
                shutil.copyfileobj(written, opened, 1 << 20)
            finally:
                opened.close()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all. Raises UserError as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figure(path: Path, figure: Any, **options: Any) -> None:
    """Write a matplotlib figure as PNG; `options` go to its `savefig`. Raises UserError as `replacing`.

    Its warnings (a character that the font lacks, a layout that does not fit) are about looks and stay unsaid.
    """
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(temporary, format="png", **options)


def is_stream(path: Path) -> bool:
    """Whether the path is a descriptor of this process, a device, a pipe or a socket: no file to replace."""
    with suppress(OSError):
        if _descriptor(_target(path)) is not None:
            return True
        kind = path.stat().st_mode
        return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
    return False


class Unbuffered:
    """A file whose `write` returns when the system has all the bytes, so that nothing is left to fail on closing."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw

    def write(self, data: bytes) -> int:
        """Write all of it. Raises OSError."""
        rest = memoryview(data)
        while rest:  # a disk that runs full takes a part first
            rest = rest[self._raw.write(rest) or 0 :]
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def open_append(path: Path) -> Unbuffered:
    """A file to append to. Raises OSError."""
    return Unbuffered(io.FileIO(path, "a"))


def open_stream(path: Path) -> Unbuffered:
    """A device, a pipe or a descriptor to write to; `/dev/stdout` is where Python writes to. Raises OSError."""
    number = _descriptor(_target(path))
    if number is None:
        return Unbuffered(io.FileIO(path, "w"))
    if python := {1: sys.stdout, 2: sys.stderr}.get(number):
        python.flush()
        with suppress(OSError):  # a stream in memory has no number
            number = python.fileno()
    return Unbuffered(io.FileIO(os.dup(number), "w"))


def sync(path: Path) -> None:
    """Have the system put a file or folder on the disk before anything that follows.

    Raises OSError when data of a file cannot be stored. Folders: where the system can (Windows and some network
    disks cannot).
    """
    folder = path.is_dir()
    try:
        opened = os.open(path, os.O_RDONLY if folder or sys.platform != "win32" else os.O_RDWR)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if not folder and error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sync_tree(folder: Path) -> None:
    """`sync` for every file and folder below `folder`, and itself: what is about to be renamed into place."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def refuse_existing(path: Path, hint: str) -> None:
    """Raises UserError when `path` holds something. Devices, pipes and empty files (of mktemp) may be written."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder", "name a file in it")
        if not is_stream(path) and path.exists() and path.stat().st_size:
            raise UserError(f"{path} exists", hint)
    except OSError as error:
        raise write_error(path, error) from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits. Raises OSError when it can't be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_error(path: Path, error: OSError, hint: str | None = None) -> UserError:
    """The error for a file that cannot be written; it says what to do about a full disk.

    hint: what to do then, None: start again.
    """
    if error.errno in _FULL:
        hint = hint or "free some space on that disk and start again; what was there before is still whole"
    elif error.errno == errno.EFBIG:
        hint = "the disk or `ulimit -f` allows no larger file"
    else:
        hint = None
    return UserError(f"cannot write {path}: {error.strerror or error}", hint)


def system_error(error: BaseException) -> OSError | None:
    """What the system said, or None: also where a library has it only in the text of its own exception.

    NumPy says how much it wrote ("10000 requested and 8176 written"), which a full disk causes; safetensors and
    other Rust libraries write "(os error 28)", SQLite "database or disk is full", others the system's own words.
    """
    if isinstance(error, OSError) and error.errno:
        return error
    text = str(error)
    if found := _SYSTEM_ERROR.search(text):
        return OSError(int(found[1]), os.strerror(int(found[1])))
    if _SHORT_WRITE.search(text) or os.strerror(errno.ENOSPC) in text or "disk is full" in text:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if os.strerror(errno.EDQUOT) in text:
        return OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return error if isinstance(error, OSError) else None


def full_disk(error: BaseException) -> OSError | None:
    """The system's error where an exception of any library comes from a full disk or a quota; None: another cause."""
    found = system_error(error)
    return found if found and found.errno in _FULL else None


def _target(path: Path) -> Path:
    """Where links lead, each followed by one step: `/dev/stdout` is itself a link, to what the shell opened."""
    for _ in range(_MOST_LINKS):
        if _descriptor(path) is not None or path.parts[1:2] == ("proc",) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _descriptor(path: Path) -> int | None:
    """The number of this process's open file that a path such as `/dev/stdout` or `/dev/fd/63` stands for."""
    found = _DESCRIPTOR.fullmatch(os.fspath(path))
    if not found:
        return None
    return int(found[1]) if found[1] else _STANDARD[found[2]]


def _replaceable(target: Path) -> os.stat_result | None:
    """What is at the target, None: nothing. Raises OSError for a folder, or a file that may not be written."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    return status


def _new_file(target: Path) -> tuple[Path, int]:
    """An empty file beside the target, and the permissions that the system gave it: those of the umask."""
    # Cut, since a name may have 255 bytes and a stem may take them all.
    name = f".{target.stem[:40]}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix[-20:]}"
    temporary = target.with_name(name)
    opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return temporary, stat.S_IMODE(os.fstat(opened).st_mode)
    finally:
        os.close(opened)


def _take_permissions(temporary: Path, before: os.stat_result | None, mode: int) -> None:
    """Those of the file before, or `mode`; a writer may have replaced the file with a private one of its own."""
    if before is not None and sys.platform != "win32":
        with suppress(OSError):  # only root may give a file to somebody else
            os.chown(temporary, before.st_uid, before.st_gid)
    temporary.chmod(mode if before is None else stat.S_IMODE(before.st_mode))
