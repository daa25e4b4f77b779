"""Writing files atomically, through links and into devices, with the usual permissions.

Torch-free. A file is written under a temporary name, flushed to the disk and renamed, so that readers never see a
partial file, and a kill, a full disk or a power failure doesn't lose the previous version.
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
    """A temporary path to write to, which replaces `path` when the block ends without an error.

    The folder of `path` is created if it is missing. Symbolic links are followed: their target is replaced. An existing
    file keeps its permissions (and its owner, if that is allowed); a new file gets those of the umask. If `path` is a
    device, a pipe or a descriptor (`/dev/stdout`, `/dev/fd/N`), the content is copied into it at the end. The temporary
    path has the same suffix, since writers look at it, and is a regular file.

    Raises:
        UserError: a full disk, a read-only file or folder, or any other error of the system, also if a library
            raised it as its own exception.
    """
    with writing(path):
        target = _target(path)
        with _through(target) if is_stream(target) else _renamed(target) as temporary:
            yield temporary


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`: errors of the system in it become a UserError that names it, others pass."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if system := system_error(error):
            raise write_error(path, system) from error
        raise


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    """A temporary file beside `target` that is renamed to it at the end."""
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
    """A temporary file that is copied into a device, a pipe or a descriptor at the end."""
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
    """Write `text` as UTF-8 to `path`, atomically. Raises UserError as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


FIGURES = (".png", ".pdf", ".svg")
"""Suffixes of the files that `write_figure` writes."""


def write_figure(path: Path, figure: Any, **options: Any) -> None:
    """Write a matplotlib figure; `options` are passed to `savefig`.

    Matplotlib's warnings (missing characters of the font, a layout that does not fit) are suppressed.

    Raises:
        UserError: as `replacing`, or a suffix that is not of `FIGURES`.
    """
    form = path.suffix.lower()
    if form not in FIGURES:
        raise UserError(f"cannot write '{path}': no format of a figure '{form}'", f"use {', '.join(FIGURES)}")
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(temporary, format=form[1:], **options)


def is_stream(path: Path) -> bool:
    """Whether the path is a descriptor of this process, a device, a pipe or a socket, so that it can't be replaced."""
    with suppress(OSError):
        if _descriptor(_target(path)) is not None:
            return True
        kind = path.stat().st_mode
        return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
    return False


class Unbuffered:
    """A file without a buffer: `write` passes all bytes to the system, so that `close` can't fail."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw

    def write(self, data: bytes) -> int:
        """Write all bytes. Raises OSError."""
        rest = memoryview(data)
        while rest:  # a nearly full disk may first take a part
            rest = rest[self._raw.write(rest) or 0 :]
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def open_append(path: Path) -> Unbuffered:
    """A file to append to. Raises OSError."""
    return Unbuffered(io.FileIO(path, "a"))


def open_stream(path: Path) -> Unbuffered:
    """A device, a pipe or a descriptor to write to; `/dev/stdout` is Python's stdout. Raises OSError."""
    number = _descriptor(_target(path))
    if number is None:
        return Unbuffered(io.FileIO(path, "w"))
    if python := {1: sys.stdout, 2: sys.stderr}.get(number):
        python.flush()
        with suppress(OSError):  # a stream in memory has no descriptor
            number = python.fileno()
    return Unbuffered(io.FileIO(os.dup(number), "w"))


def sync(path: Path) -> None:
    """Flush a file or folder to the disk (fsync).

    Raises OSError when data of a file cannot be stored. For folders nothing happens if the system can't do it (Windows
    and some network disks).
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
    """`sync` for `folder` and all files and folders below it, before it is renamed into place."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def refuse_existing(path: Path, hint: str) -> None:
    """Raises UserError when `path` exists. Devices, pipes and empty files (from mktemp) are allowed."""
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
    """The error for a file that cannot be written.

    hint: what to do if the disk is full; None: start again.
    """
    if error.errno in _FULL:
        hint = hint or "free some space on that disk and start again; the previous file is unchanged"
    elif error.errno == errno.EFBIG:
        hint = "the disk or `ulimit -f` does not allow larger files"
    else:
        hint = None
    return UserError(f"cannot write {path}: {error.strerror or error}", hint)


def system_error(error: BaseException) -> OSError | None:
    """The system's error behind an exception, or None; also if a library only has it in the text of its own exception.

    NumPy reports how much it wrote ("10000 requested and 8176 written"), which means a full disk; safetensors and other
    Rust libraries write "(os error 28)", SQLite "database or disk is full", others the system's own message.
    """
    if isinstance(error, OSError) and error.errno:
        return error
    text = str(error)
    if match := _SYSTEM_ERROR.search(text):
        return OSError(int(match[1]), os.strerror(int(match[1])))
    if _SHORT_WRITE.search(text) or os.strerror(errno.ENOSPC) in text or "disk is full" in text:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if os.strerror(errno.EDQUOT) in text:
        return OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return error if isinstance(error, OSError) else None


def full_disk(error: BaseException) -> OSError | None:
    """The system's error if an exception of any library comes from a full disk or quota; None: another cause."""
    cause = system_error(error)
    return cause if cause and cause.errno in _FULL else None


def _target(path: Path) -> Path:
    """The target of symbolic links. They are followed step by step, because `/dev/stdout` is a link itself."""
    for _ in range(_MOST_LINKS):
        if _descriptor(path) is not None or path.parts[1:2] == ("proc",) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _descriptor(path: Path) -> int | None:
    """The number of the descriptor of a path such as `/dev/stdout` or `/dev/fd/63`; None for other paths."""
    match = _DESCRIPTOR.fullmatch(os.fspath(path))
    if not match:
        return None
    return int(match[1]) if match[1] else _STANDARD[match[2]]


def _replaceable(target: Path) -> os.stat_result | None:
    """The status of the existing target; None: it doesn't exist. Raises OSError for a folder or a read-only file."""
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
    """A new empty file beside the target, and its permissions, which are those of the umask."""
    # The stem is cut, since a file name may have at most 255 bytes.
    name = f".{target.stem[:40]}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix[-20:]}"
    temporary = target.with_name(name)
    opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return temporary, stat.S_IMODE(os.fstat(opened).st_mode)
    finally:
        os.close(opened)


def _take_permissions(temporary: Path, before: os.stat_result | None, mode: int) -> None:
    """Set the permissions of the file before, or `mode`; a writer may have made the file anew as a private one."""
    if before is not None and sys.platform != "win32":
        with suppress(OSError):  # only root may change the owner
            os.chown(temporary, before.st_uid, before.st_gid)
    temporary.chmod(mode if before is None else stat.S_IMODE(before.st_mode))
