"""Decoding an open video: its shown frames one by one in display order, upright, as (H, W, 3) uint8 RGB.

Frames that cannot be decoded are skipped and counted.
"""

from collections.abc import Iterator
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ga2clip.video.errors import VideoError
from ga2clip.video.source import OpenVideo

Frame = npt.NDArray[np.uint8]


class Reader:
    """Iterates over the shown frames of an open video, skipping damaged data, until its end or its deadline.

    Attributes:
        packets: number of compressed frames in the file so far.
        decoded: number of decoded frames.
        undecodable: number of packets that the decoder refused.
        damaged: number of frames that were decoded with errors.
        read_error: why reading stopped early, or "".
    """

    def __init__(self, video: OpenVideo) -> None:
        self._video = video
        self.packets = 0
        self.decoded = 0
        self.undecodable = 0
        self.damaged = 0
        self.read_error = ""

    def __iter__(self) -> Iterator[VideoFrame]:
        for packet in self._read_packets():
            yield from self._decode(packet)
        yield from self._decode(None)  # the frames that the decoder still holds back

    def _read_packets(self) -> Iterator[Packet]:
        try:
            for packet in read_packets(self._video):
                self.packets += 1
                yield packet
        except av.FFmpegError as error:
            self._video.deadline.check()
            self.read_error = (error.strerror or str(error)).lower()

    def _decode(self, packet: Packet | None) -> Iterator[VideoFrame]:
        try:
            frames = self._video.stream.decode(packet)
        except av.FFmpegError:
            self.undecodable += 1
            return
        for frame in frames:
            self.decoded += 1
            self.damaged += frame.is_corrupt
            self._video.deadline.check()
            yield frame

    def nothing_decoded(self) -> VideoError:
        """The error for a video of which nothing could be decoded."""
        if self.packets:
            reason = f"none of its {self.packets} frames could be decoded"
            return VideoError(self._video.path, reason)
        return VideoError(
            self._video.path, "it has no frames in it: perhaps it was cut off right after its header"
        )

    def warnings(self) -> tuple[str, ...]:
        """What could not be read or decoded so far, one sentence each."""
        warnings = []
        if self.read_error:
            warnings.append(f"the file could not be read to its end ({self.read_error})")
        if self.undecodable:
            warnings.append(
                f"{self.undecodable} of {self.packets} frames could not be decoded and were skipped"
            )
        if self.damaged:
            warnings.append(f"{self.damaged} of {self.decoded} frames are damaged")
        return tuple(warnings)


def read_packets(video: OpenVideo) -> Iterator[Packet]:
    """The compressed frames of the video in the order of the file. Raises av.FFmpegError, VideoError."""
    try:
        for packet in video.container.demux(video.stream):
            video.deadline.check()
            # Packets without content end the stream for the decoder; AVI files use them for "no change".
            if packet.size:
                yield packet
    except av.error.ExitError:
        raise video.deadline.error() from None


class RgbConverter:
    """Converts decoded frames to upright frames (H, W, 3) uint8 RGB, all of the size of the first one.

    The rotation (or mirroring) in the file's metadata is applied, to the nearest quarter turn. Frames with non-square
    pixels are not rescaled. Interlaced frames keep both fields.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._reformatter = VideoReformatter()
        self._stored_size: tuple[int, int] | None = None
        self._orientation = (False, False, False)

    def __call__(self, frame: VideoFrame) -> Frame:
        """Convert a frame of any size. Raises VideoError for a pixel format that can't be converted to RGB."""
        if self._stored_size is None:
            self._stored_size = (frame.width, frame.height)
            self._orientation = orientation(frame)
        width, height = self._stored_size
        try:
            rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        except (av.FFmpegError, ValueError):
            raise VideoError(self._path, f"its pixel format ({frame.format.name}) is not supported") from None
        transposed, flip_rows, flip_columns = self._orientation
        if transposed:
            rgb = rgb.transpose(1, 0, 2)
        return np.ascontiguousarray(rgb[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height in pixels once the frame is upright."""
    return (frame.height, frame.width) if orientation(frame)[0] else (frame.width, frame.height)


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """How to make a stored frame upright: (swap rows and columns, then flip the rows, flip the columns).

    The file's 3×3 display matrix [[a b u], [c d v], [x y w]] puts the stored pixel (p, q) at
    (a·p + c·q + x, b·p + d·q + y) (ISO/IEC 14496-12, section 6.2.2).
    """
    try:
        stored = bytes(cast(Any, frame.side_data)["DISPLAYMATRIX"])
    except KeyError:
        return False, False, False
    a, b, _, c, d = np.frombuffer(stored, dtype=np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, b < 0, c < 0
    return False, d < 0, a < 0
