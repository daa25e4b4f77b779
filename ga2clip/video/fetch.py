"""Video bytes from standard input, named pipes and http addresses, as a stream or as a complete local copy.

A recorded video that needs seeking (an MP4 with its index at the end) or that is read twice (sampling) is copied to a
temporary file of at most `MOST_BYTES`, which is deleted after use.
"""

import base64
import logging
import os
import re
import select
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from ga2clip.text import printable
from ga2clip.video.errors import VideoError

if (
    TYPE_CHECKING
):  # loaded where an address is opened: with TLS they take longer than the rest of this package
    from urllib.request import Request

log = logging.getLogger(__name__)

MOST_BYTES = 4 << 30
"""The largest temporary copy."""
# Seconds without any data after which a source counts as dead.
SILENCE = 10.0
# Seconds to wait for the first writer of a named pipe.
_WRITER = 60.0
# Bytes to read ahead: enough to tell where the index of an MP4 is, and quick to receive.
_HEAD = 256
_CHUNK = 1 << 20
# One slash is enough, since pathlib turns Path("http://host/clip.mp4") into "http:/host/clip.mp4".
_HTTP = re.compile(r"^(https?):/+", re.IGNORECASE)
_FILE = re.compile(r"^file:/", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
# Parts of an MP4 or QuickTime file that may stand before its index (ISO/IEC 14496-12, section 6.2).
_BEFORE_INDEX = {b"ftyp", b"wide", b"free", b"skip", b"pnot", b"styp", b"sidx", b"uuid"}


@dataclass(frozen=True)
class LocalFile:
    """A regular file to read a video from. It is path-like.

    Attributes:
        name: the video's name in messages and results.
        path: the path of the file.
    """

    name: str
    path: str

    def __fspath__(self) -> str:
        return self.path


class ByteStream:
    """A stream of bytes whose first bytes can be looked at in advance. PyAV reads containers from it.

    Attributes:
        name: the source's name in messages, without credentials.
        head: the first bytes, at most 256.
        live: whether it is an http response without a length: a source that can't wait and has no known end.
        address: whether it is an http response.
        multipart: whether it is a multipart response of JPEG images, as cameras send them.
        error: why `read` ended early, or None.
    """

    def __init__(self, name: str, file: Any, *, address: bool = False) -> None:
        self.name = name
        self.address = address
        self.live = address and file.length is None
        self.multipart = address and file.headers.get_content_maintype() == "multipart"
        self.error: VideoError | None = None
        self._file = file
        self.head = b""
        while len(self.head) < _HEAD and (part := self._receive(_HEAD - len(self.head))):
            self.head += part
        self._rest = self.head

    def read(self, size: int) -> bytes:
        """As `take`, for PyAV: an error ends the stream and is kept in `error`, because PyAV would only print it."""
        if self.error is None:
            try:
                return self.take(size)
            except VideoError as error:
                self.error = error
        return b""

    def take(self, size: int) -> bytes:
        """Read 1 to `size` bytes, or none at the end. Raises VideoError when the source stops responding."""
        if self._rest:
            part, self._rest = self._rest[:size], self._rest[size:]
            return part
        return self._receive(size)

    def close(self) -> None:
        """Ends the connection; standard input stays open."""
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def __enter__(self) -> "ByteStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, size: int) -> bytes:
        from http.client import HTTPException

        try:
            part: bytes = self._file.read1(size)
        except TimeoutError:
            hint = "check the address, and that the camera is on"
            raise VideoError(self.name, f"no data for {SILENCE:g} s", hint) from None
        except (OSError, HTTPException) as error:
            raise VideoError(self.name, f"the connection broke ({_reason(error)})") from None
        missing = getattr(self._file, "length", None)
        if not part and missing:
            raise VideoError(self.name, f"the connection broke: {missing} bytes are missing")
        return part


def is_http(name: str) -> bool:
    """Whether a name is an http or https address."""
    return _HTTP.match(name) is not None


def is_byte_stream(source: str | os.PathLike[str]) -> bool:
    """Whether the source is standard input ('-'), an http address or a named pipe."""
    name = os.fsdecode(source)
    return name == "-" or is_http(name) or _is_named_pipe(name)


def path_of(name: str) -> str:
    """The path of a file:// address; any other name is returned unchanged."""
    if not _FILE.match(name):
        return name
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return url2pathname(urlsplit(name).path)


def open_byte_stream(source: str | os.PathLike[str]) -> ByteStream:
    """Opens what `is_byte_stream` accepts. Raises VideoError."""
    stream = _connect(os.fsdecode(source))
    if not stream.head:
        stream.close()
        raise VideoError(stream.name, "there is nothing in it (0 bytes)")
    return stream


def _connect(name: str) -> ByteStream:
    if name == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise VideoError(
                "standard input", "nothing is piped into it", "such as: cat clip.mp4 | ga2clip predict -"
            )
        return ByteStream("standard input", sys.stdin.buffer)
    if is_http(name):
        return _request(name)
    return ByteStream(name, _open_named_pipe(name))


def must_be_whole(head: bytes) -> bool:
    """Whether a video that begins with these bytes can only be read by seeking.

    True for WebP, and for MP4 and QuickTime files whose index ('moov') does not come before the media data ('mdat').
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    at = 0
    while head[at + 4 : at + 8] in _BEFORE_INDEX:
        size = int.from_bytes(head[at : at + 4], "big")
        if size < 8:
            return True
        at += size
    return head[at + 4 : at + 8] == b"mdat" or 0 < len(head) <= at


def without_credentials(address: str) -> str:
    """The address without user and password, for messages."""
    return _CREDENTIALS.sub("***@", address)


def is_playlist(head: bytes) -> bool:
    """Whether these are the first bytes of an HLS playlist."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U")


@contextmanager
def local_file(source: str | os.PathLike[str]) -> Iterator[LocalFile]:
    """A regular file with the recorded video of `source`: the file itself, or a temporary copy of standard input, a
    named pipe or an http address, which is deleted at the end.

    Raises VideoError for a live source, a copy larger than 4 GiB, and a broken connection.
    """
    name = os.fsdecode(source)
    if not is_byte_stream(name):
        yield LocalFile(name, path_of(name))
        return
    with open_byte_stream(name) as stream:
        if stream.live or (stream.address and is_playlist(stream.head)):
            raise VideoError(stream.name, "it is a stream, not a recorded file", "add --follow")
        with whole_copy(stream) as path:
            yield LocalFile(stream.name, path)


@contextmanager
def whole_copy(stream: ByteStream) -> Iterator[str]:
    """The path of a temporary file with all bytes of a stream. Raises VideoError."""
    log.info("%s: copied to a temporary file first", printable(stream.name))
    # With /proc, the file is unnamed, so that it disappears however this process ends.
    nameless = Path("/proc/self/fd").is_dir()
    try:
        make = tempfile.TemporaryFile if nameless else tempfile.NamedTemporaryFile
        made: Any = make(prefix="ga2clip-")
    except OSError as error:
        raise _no_room(stream, error) from None
    with made as file:
        _copy(stream, file)
        yield f"/proc/self/fd/{file.fileno()}" if nameless else file.name


def _copy(stream: ByteStream, file: BinaryIO) -> None:
    size = 0
    while part := stream.take(_CHUNK):
        size += len(part)
        if size > MOST_BYTES:
            reason = f"it is larger than {MOST_BYTES / 2**30:g} GiB, the limit for temporary copies"
            raise VideoError(stream.name, reason, "save it as a file and give the file's name")
        try:
            file.write(part)
            file.flush()
        except OSError as error:
            raise _no_room(stream, error) from None


def _no_room(stream: ByteStream, error: OSError) -> VideoError:
    reason = f"cannot keep it in a temporary file ({_reason(error)})"
    return VideoError(stream.name, reason, "set TMPDIR to a folder with enough space")


def _is_named_pipe(name: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def _open_named_pipe(name: str) -> BinaryIO:
    """Opens a named pipe and waits until it has data. A plain `open` would block forever without a writer."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise VideoError(name, _reason(error)) from None
    if not select.select([descriptor], [], [], _WRITER)[0]:
        os.close(descriptor)
        raise VideoError(name, f"no data in this named pipe for {_WRITER:g} s")
    os.set_blocking(descriptor, True)
    return open(descriptor, "rb")


def _request(name: str) -> ByteStream:
    from http.client import HTTPException
    from urllib.request import urlopen

    address = _HTTP.sub(r"\1://", name)
    shown = without_credentials(address)
    try:
        answer = urlopen(_with_credentials(address), timeout=SILENCE)
    except TimeoutError:
        hint = "check the address, and that the camera is on"
        raise VideoError(shown, f"no data for {SILENCE:g} s", hint) from None
    except (OSError, ValueError, HTTPException) as error:
        raise VideoError(shown, f"the request failed ({_reason(error)})") from None
    return ByteStream(shown, answer, address=True)


def _with_credentials(address: str) -> "Request":
    """The request, with `user:password@` of the address as a header (RFC 7617)."""
    from urllib.parse import unquote, urlsplit
    from urllib.request import Request

    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "ga2clip"})
    if at:
        login = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
    return request


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return str(getattr(cause, "strerror", None) or cause).lower()
