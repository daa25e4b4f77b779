"""The name of a video file (or the address of a stream) in; an open FFmpeg container with its video stream out.

Everything that can be wrong before the first picture is found here and said in plain words (VideoError).
"""

import os
import re
import stat
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from ga2clip.video.errors import VideoError

# A stream that says nothing for so long is taken for dead.
_STREAM_SILENCE = 10.0
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
# FFmpeg reads text files as the video of a terminal, and pictures as videos of one frame.
_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails


class Deadline:
    """The moment after which reading one file is given up. seconds None: never."""

    def __init__(self, path: str | os.PathLike[str], seconds: float | None) -> None:
        self._path = os.fsdecode(path)
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, at least a millisecond; None without one."""
        return None if self._end is None else max(self._end - time.monotonic(), 1e-3)

    def check(self) -> None:
        """Raises VideoError when the time is over."""
        if self._end is not None and time.monotonic() > self._end:
            raise self.error()

    def error(self) -> VideoError:
        """The error for a time that is over: the file's, or a silent stream's."""
        if self._seconds is None:
            hint = "check the address, and that the camera is on"
            return VideoError(self._path, f"nothing came for {_STREAM_SILENCE:g} s", hint)
        return VideoError(
            self._path,
            f"reading it took longer than {self._seconds:g} s",
            "raise the time limit if the file is just long, or make a smaller copy",
        )


@dataclass(frozen=True)
class OpenVideo:
    """An open container and the stream to read. Close it, or use `with`.

    path: the name, as messages show it. live: not a file, so that it can be neither sought nor opened again.
    """

    path: str
    container: InputContainer
    stream: VideoStream
    deadline: Deadline
    live: bool
    _resources: ExitStack

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


def open_file(path: str | os.PathLike[str], deadline: Deadline) -> OpenVideo:
    """Opens a regular file, whatever its name and extension.

    Of several video streams the first one is read; cover pictures and thumbnails are not video streams.
    Raises VideoError.
    """
    name = os.fsdecode(path)
    _refuse_what_is_no_file(name)
    with ExitStack() as resources:
        target: Any = f"file:{name}"  # or 'a:b.mp4' would be taken for an address
        if "%" in name:
            # FFmpeg reads '%03d.jpg' as a pattern of numbered pictures. Opened by its descriptor the file's
            # name is a number, and the format is found from the content alone.
            target = resources.enter_context(open(os.open(name, os.O_RDONLY), "rb"))
        return _open(name, target, deadline, resources, live=False)


def open_stream(address: str | os.PathLike[str]) -> OpenVideo:
    """Opens a file, an address (rtsp://, http://, …), a camera (/dev/video0) or standard input ('-').

    A stream that stays silent for 10 seconds is an error; otherwise there is no time limit. Raises VideoError.
    """
    name = os.fsdecode(address)
    with ExitStack() as resources:
        if name == "-":
            return _open("standard input", sys.stdin.buffer, Deadline(name, None), resources)
        if _URL.match(name):
            shown = _CREDENTIALS.sub("***@", name)
            return _open(shown, name, Deadline(shown, None), resources)
        if name.startswith("/dev/video") and _is_character_device(name):
            return _open(name, name, Deadline(name, None), resources, format="v4l2")
    return open_file(name, Deadline(name, None))


def _is_character_device(name: str) -> bool:
    return Path(name).exists() and stat.S_ISCHR(os.stat(name).st_mode)


def _refuse_what_is_no_file(name: str) -> None:
    """Pipes and devices would block for ever, so they are refused before they are opened."""
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
    live: bool = True,
    format: str | None = None,
) -> OpenVideo:
    try:
        container = av.open(
            target,
            format=format,
            # No playlist inside a local file can make FFmpeg fetch something from the network.
            container_options={} if live else {"protocol_whitelist": "file"},
            metadata_errors="replace",  # titles in old code pages are no reason to refuse a video
            timeout=_STREAM_SILENCE if live else deadline.seconds_left,
        )
    except av.error.ExitError:
        raise deadline.error() from None
    except (av.FFmpegError, OSError) as error:
        raise VideoError(name, _why_not_opened(name, error)) from None
    resources.enter_context(container)
    stream = _choose_stream(name, container)
    # One thread for each file: damaged pictures then come out the same every time, and many workers do not
    # start many times as many threads. Batches are parallel over files.
    stream.thread_count = 1
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return OpenVideo(name, container, stream, deadline, live, resources.pop_all())


def _why_not_opened(name: str, error: Exception) -> str:
    if not isinstance(error, av.error.InvalidDataError):
        return (getattr(error, "strerror", None) or str(error)).lower()
    if os.path.isfile(name):
        with open(name, "rb") as file:
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
    if not container.streams:
        raise VideoError(name, "there is nothing in it: perhaps it was cut off after its header")
    if not moving:
        what = "only a still picture" if container.streams.video else "no video stream"
        sound = ", just sound" if container.streams.audio else ""
        raise VideoError(name, f"there is {what} in it{sound}")
    stream = moving[0]
    if stream.codec_context is None:
        raise VideoError(name, "its codec is not supported", "convert it, for example to H.264 in MP4")
    return stream
