"""Opens a file, pipe, camera or address and selects its video stream.

All problems before the first frame are detected here and raised as VideoError.
"""

import os
import re
import stat
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from ga2clip.video import fetch
from ga2clip.video.animation import animated_webp
from ga2clip.video.deadline import Deadline
from ga2clip.video.errors import VideoError

# HLS playlists have no new data while one segment plays, hence a longer timeout.
_PLAYLIST_SILENCE = 30.0
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# FFmpeg reads text files as videos of a terminal, and images as videos of one frame.
_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails
# Brands of HEIF files (AVIF, HEIC): pictures beside which a moving one may stand (ISO/IEC 23008-12, section 7).
_HEIF = {"avif", "avis", "mif1", "msf1", "heic", "heix", "hevc", "hevx", "heim", "heis"}
# Local playlists must not make FFmpeg fetch from the network, and must end when they are not continued.
_FILE_OPTIONS = {"protocol_whitelist": "file", "live_start_index": "0", "m3u8_hold_counters": "3"}
# Without time stamps there is nothing to analyse, and to wait for.
_AT_ONCE = {"fpsprobesize": "0", "analyzeduration": "1"}
_UNTIMED_HEADS = (b"\xff\xd8\xff", b"\0\0\0\1", b"\0\0\1\x67", b"\0\0\1\x09", b"\0\0\1\x40")

Kind = Literal["file", "pipe", "recording", "live"]


@dataclass(frozen=True)
class OpenVideo:
    """An open container and the stream to read. Close it, or use `with`.

    Attributes:
        path: the name in messages.
        kind: "file" (can be seeked and reopened), "pipe" (waits for its reader), "recording" (a finite video at an
            address) or "live" (doesn't wait for its reader and doesn't end by itself).
        file: the path, for a "file".
    """

    path: str
    container: InputContainer
    stream: VideoStream
    deadline: Deadline
    kind: Kind
    file: str
    _bytes: fetch.ByteStream | None
    _resources: ExitStack

    @property
    def live(self) -> bool:
        """Whether the source is live: frames arrive even if they are not read."""
        return self.kind == "live"

    @property
    def discontinuous(self) -> bool:
        """Whether jumps of time stamps have no meaning: FFmpeg marks the format as discontinuous, or it is live."""
        return self.live or _has_flag(self.container, Flags.ts_discont)

    @property
    def untimed(self) -> bool:
        """Whether frames have no time stamps, so that their time of arrival is used."""
        return self.kind in ("pipe", "live") and _has_flag(self.container, Flags.no_timestamps)

    @property
    def broken(self) -> VideoError | None:
        """Why the bytes of an address or pipe ended early; None if they didn't."""
        return None if self._bytes is None else self._bytes.error

    @property
    def format(self) -> str:
        """FFmpeg's name of the container format, such as 'avi' or 'matroska,webm'."""
        return self.container.format.name

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of a time stamp."""
        return self.stream.time_base or Fraction(1, av.time_base)

    def close(self) -> None:
        """Closes the container and the file below it."""
        self._resources.close()

    def __enter__(self) -> "OpenVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_file(path: str | os.PathLike[str], deadline: Deadline, name: str | None = None) -> OpenVideo:
    """Opens a regular file; its format is detected by content, not by extension.

    The first video stream is read; cover images and thumbnails don't count. name: for messages, if the file is a
    temporary copy. Raises VideoError.
    """
    path = os.fsdecode(path)
    name = name or path
    _refuse_what_is_no_file(path)
    with ExitStack() as resources:
        target: Any = f"file:{path}"  # otherwise 'a:b.mp4' would be taken as an address
        if "%" in path:
            # FFmpeg reads '%03d.jpg' as a pattern of numbered pictures. Opened by its descriptor the file's
            # name is a number, and the format is found from the content alone.
            target = resources.enter_context(open(os.open(path, os.O_RDONLY), "rb"))
        elif _is_webp(path) and (animation := animated_webp(name, path, deadline)):
            target = resources.enter_context(animation)
        return _open(name, target, deadline, resources, kind="file", file=path, options=_FILE_OPTIONS)


def open_stream(source: str | os.PathLike[str]) -> OpenVideo:
    """Opens a file, an address (rtsp://, http://, …), a camera (/dev/video0), a named pipe or standard input ('-').

    A video that needs seeking but can't be seeked, such as an MP4 with its index at the end in a pipe, is copied to a
    temporary file. 10 seconds without data are an error; there is no other time limit. Raises VideoError.
    """
    name = os.fsdecode(source)
    if isinstance(source, fetch.LocalFile):
        return open_file(source.path, Deadline(source.name, None), source.name)
    if fetch.is_byte_stream(name):
        return _open_bytes(name)
    path = fetch.path_of(name)
    if _URL.match(path):
        return _open_address(name)
    if name.startswith("/dev/video") and _is_character_device(name):
        with ExitStack() as resources:
            return _open(name, name, Deadline(name, None), resources, kind="live", format="v4l2")
    return open_file(path, Deadline(name, None), name)


def _open_bytes(source: str) -> OpenVideo:
    with ExitStack() as resources:
        stream = resources.enter_context(fetch.open_byte_stream(source))
        deadline = Deadline(stream.name, None)
        if stream.address and fetch.is_playlist(stream.head):
            return _open_address(source)
        if fetch.must_be_whole(stream.head):
            path = resources.enter_context(fetch.whole_copy(stream))
            video = resources.enter_context(open_file(path, deadline, stream.name))
            return replace(video, _resources=resources.pop_all())
        jpegs = stream.multipart or stream.head.startswith(b"\xff\xd8\xff")
        video = _open(
            stream.name,
            stream,
            deadline,
            resources,
            kind="live" if stream.live else "recording" if stream.address else "pipe",
            format=("mpjpeg" if stream.multipart else "mjpeg") if jpegs else None,
            options=_AT_ONCE if jpegs or stream.head.startswith(_UNTIMED_HEADS) else {},
        )
    return replace(video, kind="recording") if video.live and _has_duration(video) else video


def _open_address(address: str) -> OpenVideo:
    name = fetch.without_credentials(address)
    deadline = Deadline(name, None, _PLAYLIST_SILENCE if fetch.is_http(name) else None)
    with ExitStack() as resources:
        video = _open(name, address, deadline, resources, kind="live")
    playlist = video.format == "hls"
    finite = _has_duration(video) or (video.container.size >= 0 and not playlist)
    return replace(video, kind="recording") if finite else video


def _has_flag(container: InputContainer, flag: Flags) -> bool:
    return flag in Flags(container.format.flags)


def _has_duration(video: OpenVideo) -> bool:
    """Whether the header has a duration. (FFmpeg's estimate from the bit rate doesn't count.)"""
    return (video.container.duration or 0) > 0


def _is_webp(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def _is_character_device(name: str) -> bool:
    return Path(name).exists() and stat.S_ISCHR(os.stat(name).st_mode)


def _refuse_what_is_no_file(name: str) -> None:
    """Raises VideoError for what is not a regular file. Opening pipes and devices could block forever."""
    try:
        status = os.stat(name)
        readable = os.access(name, os.R_OK)
    except FileNotFoundError:
        raise VideoError(name, "there is no such file") from None
    except ValueError:
        raise VideoError(name, "a file name cannot contain a null character") from None
    except OSError as error:
        raise VideoError(name, (error.strerror or str(error)).lower()) from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(name, "it is a directory", "give the video files in it")
    if stat.S_ISFIFO(status.st_mode):
        raise VideoError(name, "it is a named pipe, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(name, "it is a device or a socket, not a file")
    if status.st_size == 0:
        raise VideoError(name, "the file is empty (0 bytes)")
    if not readable:
        raise VideoError(name, "permission denied")


def _open(
    name: str,
    target: Any,
    deadline: Deadline,
    resources: ExitStack,
    *,
    kind: Kind,
    file: str = "",
    format: str | None = None,
    options: dict[str, str] | None = None,
) -> OpenVideo:
    try:
        container = av.open(
            target,
            format=format,
            container_options=options or {},
            metadata_errors="replace",  # titles in old code pages must not be an error
            timeout=deadline.seconds_left if kind == "file" else deadline.silence,
        )
    except av.error.ExitError:
        raise deadline.error() from None
    except (av.FFmpegError, OSError) as error:
        deadline.check()  # FFmpeg reports some interrupted calls as invalid data
        broken = target.error if isinstance(target, fetch.ByteStream) else None
        raise broken or VideoError(name, _why_not_opened(file, error)) from None
    resources.enter_context(container)
    stream = _choose_stream(name, container)
    # One thread per file: damaged frames are then decoded the same way every time, and many workers don't
    # multiply the number of threads. Batches are parallel over files.
    stream.thread_count = 1
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    source = target if isinstance(target, fetch.ByteStream) else None
    return OpenVideo(name, container, stream, deadline, kind, file, source, resources.pop_all())


def _why_not_opened(path: str, error: Exception) -> str:
    if not isinstance(error, av.error.InvalidDataError):
        return (getattr(error, "strerror", None) or str(error)).lower()
    if path:
        with open(path, "rb") as file:
            if file.read(8)[4:] == b"ftyp":
                return (
                    "the file is truncated: it starts like an MP4 but its index (the 'moov' part) is missing"
                )
    return "it is not a video file, or its beginning is damaged"


def _choose_stream(name: str, container: InputContainer) -> VideoStream:
    kind = container.format.name
    if kind.endswith("_pipe") or kind in {"image2", "image2pipe"}:
        raise VideoError(name, "it is a still picture, not a video")
    if kind in _TEXT_ART:
        raise VideoError(name, "it is a text file, not a video")
    moving = [stream for stream in container.streams.video if not stream.disposition & _NOT_MOVING]
    if container.metadata.get("major_brand", "") in _HEIF:
        moving = [stream for stream in moving if stream.duration is not None]  # pictures have none
    if not container.streams:
        raise VideoError(name, "it holds no streams: perhaps it was cut off after its header")
    if not moving:
        what = "only a still picture" if container.streams.video else "no video stream"
        sound = ", only sound" if container.streams.audio else ""
        raise VideoError(name, f"there is {what} in it{sound}")
    stream = moving[0]
    if stream.codec_context is None:
        raise VideoError(name, "its codec is not supported", "convert it, for example to H.264 in MP4")
    return stream
