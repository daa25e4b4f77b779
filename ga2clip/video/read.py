"""Reading recorded video: frames (T, H, W, 3) uint8 RGB and their times in seconds, float64 (T,).

Frame numbers count the frames that can be decoded, in display order; no header is trusted. Time 0 is the first
frame that is shown.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from ga2clip.text import printable
from ga2clip.video.clock import Clock
from ga2clip.video.decode import Frame, Reader, RgbConverter, upright_size
from ga2clip.video.errors import VideoError
from ga2clip.video.fetch import LocalFile, local_file
from ga2clip.video.preprocess import Frames, resize_short_side
from ga2clip.video.sampling import SamplingRule, sample_indices
from ga2clip.video.seek import PacketTable, pick_by_seeking, read_packet_table
from ga2clip.video.source import Deadline, OpenVideo, open_file
from ga2clip.video.truncation import cut_warnings

log = logging.getLogger(__name__)

Times = npt.NDArray[np.float64]

# Shorter videos are decoded in full: only so the number of their frames is certain, and damage is seen.
_LONG = 1000
_MOST_REPEATED = 1024
"""Frames that a clip may have although its video has fewer; each takes the memory of a frame of its own."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video turned out to be when it was decoded.

    Attributes:
        path: of the file.
        width: pixels, upright.
        height: pixels, upright.
        frames: how many can be decoded.
        duration: seconds from the first frame to the end of the last.
        fps: frames per second while frames are shown, without long gaps.
        codec: FFmpeg's name.
        warnings: what was lost and where time stamps made no sense, one sentence each.
    """

    path: Path
    width: int
    height: int
    frames: int
    duration: float
    fps: float
    codec: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampledClip:
    """The frames that a rule took: frames (V*T, H, W, 3) uint8 RGB, view after view; times float64 (V*T,)."""

    frames: Frames
    times: Times
    views: int
    info: VideoInfo

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was lost, one sentence each."""
        return self.info.warnings


def probe(path: str | os.PathLike[str], *, time_limit: float | None = 60.0) -> VideoInfo:
    """Decodes a file from beginning to end and says what is in it. time_limit: seconds. Raises VideoError."""
    with open_file(path, Deadline(path, time_limit)) as video:
        info = _decode(video, _Collector(video, []))
    _log_warnings(info)
    return info


def read_frames(
    path: str | os.PathLike[str], indices: Sequence[int] | None = None, *, time_limit: float | None = None
) -> tuple[Frames, Times]:
    """Reads frames by their numbers: uint8 (T, H, W, 3) RGB and their times, float64 seconds (T,).

    indices: numbers of decoded frames, in any order, repeated as you like; None for every frame. Raises
    VideoError for a file that cannot be read, a number that it does not have, or after time_limit seconds.
    """
    deadline = Deadline(path, time_limit)
    numbers = None if indices is None else [int(index) for index in indices]
    last = None if numbers is None or min(numbers, default=0) < 0 else max(numbers, default=0)
    info = None
    if last is not None and last >= _LONG:
        with open_file(path, deadline) as video:
            found = _Collector(video, numbers)
            info = _seek(video, read_packet_table(video), found)
    if info is None:
        with open_file(path, deadline) as video:
            found = _Collector(video, numbers)
            info = _decode(video, found, last=last)
    if numbers is None:
        numbers = list(range(info.frames))
    for number in numbers:
        if number not in found.kept:
            raise VideoError(
                path, f"it has no frame {number}: {info.frames} frames can be decoded, from 0 on"
            )
    _log_warnings(info)
    return found.arrays(numbers, info)


def sample_frames(
    path: str | os.PathLike[str],
    rule: SamplingRule,
    *,
    size: int | None = None,
    time_limit: float | None = 60.0,
) -> SampledClip:
    """Decodes a file once and keeps only the frames that a rule takes.

    The rule needs the number of frames. It is first guessed, from the header or by counting packets, and the
    decoding that follows verifies the guess; only where it was wrong (damage, edit lists, dropped frames) is the
    file decoded once more, with the true number. Long files are not decoded but for the neighbourhood of the
    frames, where their packets allow it.

    path: a file, or a recorded video in a named pipe, at an http address or in standard input ("-"), which is copied
    to a temporary file first. size: scale the short side to this at once, so that memory stays small; None keeps the
    frames as they are. time_limit: seconds for the whole, without the copying. Raises VideoError.
    """
    with local_file(path) as local:
        return _sample(local, rule, size, Deadline(local.name, time_limit))


def _sample(file: LocalFile, rule: SamplingRule, size: int | None, deadline: Deadline) -> SampledClip:
    info = None
    with open_file(file.path, deadline, file.name) as video:
        count = video.stream.frames
        if 0 < count < _LONG:
            found = _Collector(video, _numbers(count, rule), size)
            info = _decode(video, found)
        else:
            table = read_packet_table(video)
            count = max(len(table), 1)
            found = _Collector(video, _numbers(count, rule), size)
            info = _seek(video, table, found)
    while info is None or info.frames != count:
        count = count if info is None else info.frames
        with open_file(file.path, deadline, file.name) as video:
            found = _Collector(video, _numbers(count, rule), size)
            info = _decode(video, found)
    if len(found.numbers) > max(info.frames * rule.clips, _MOST_REPEATED):
        raise VideoError(
            file.name,
            f"{len(found.numbers)} frames are wanted of {info.frames}: more than {_MOST_REPEATED} are not repeated",
        )
    _log_warnings(info)
    frames, times = found.arrays(found.numbers, info)
    return SampledClip(frames, times, rule.clips, info)


class _Collector:
    """Keeps the frames that are wanted as upright RGB frames, with their times.

    numbers: of the wanted frames, None for all. size: of the short side, None as it is.
    """

    def __init__(self, video: OpenVideo, numbers: Sequence[int] | None, size: int | None = None) -> None:
        self.numbers = [] if numbers is None else numbers
        self.wanted = None if numbers is None else frozenset(numbers)
        self.kept: dict[int, Frame] = {}
        self._times: dict[int, float] = {}
        self._size = size
        self._to_rgb = RgbConverter(video.path)

    def offer(self, number: int, frame: VideoFrame, time: float) -> None:
        """Converts the frame if it is wanted."""
        if self.wanted is not None and number not in self.wanted:
            return
        rgb = self._to_rgb(frame)
        if self._size is not None:
            rgb = resize_short_side(rgb[None], self._size)[0]
        self.kept[number] = rgb
        self._times[number] = time

    def arrays(self, numbers: Sequence[int], info: VideoInfo) -> tuple[Frames, Times]:
        """The kept frames in the order of `numbers`. Empties the collector, so that no frame is kept twice."""
        shape = self.kept[numbers[0]].shape if numbers else (info.height, info.width, 3)
        frames = np.empty((len(numbers), *shape), np.uint8)
        last_place = {number: place for place, number in enumerate(numbers)}
        for place, number in enumerate(numbers):
            frames[place] = self.kept[number]
            if last_place[number] == place:
                del self.kept[number]
        return frames, np.array([self._times[number] for number in numbers], np.float64)


def _numbers(count: int, rule: SamplingRule) -> list[int]:
    numbers: list[int] = sample_indices(count, rule).ravel().tolist()
    return numbers


def _decode(video: OpenVideo, found: _Collector, *, last: int | None = None) -> VideoInfo:
    """Decodes from the beginning to the end, or to frame number `last`."""
    reader, clock = Reader(video), Clock(video)
    width = height = 0
    complete = True
    for number, frame in enumerate(reader):
        if number == 0:
            width, height = upright_size(frame)
        found.offer(number, frame, clock.time(frame))
        if number == last:
            complete = False
            break
    if reader.decoded == 0:
        raise reader.nothing_decoded()
    warnings = reader.warnings() + (cut_warnings(video, reader.packets) if complete else ())
    return _info(video, (width, height), reader.decoded, clock, warnings)


def _seek(video: OpenVideo, table: PacketTable, found: _Collector) -> VideoInfo | None:
    """Decodes around the wanted frames only. None when that is not worth it or not safe."""
    wanted = sorted(found.wanted or ())
    if len(table) < _LONG or not table.worth_seeking(wanted):
        return None
    sizes = []
    clock = Clock(video)
    times = [clock.at(stamp) for stamp in table.stamps.tolist()]
    clock.stays(table.last_duration)

    def keep(number: int, frame: VideoFrame) -> None:
        sizes.append(upright_size(frame))
        found.offer(number, frame, times[number])

    if not pick_by_seeking(video, table, wanted, keep):
        return None
    return _info(video, sizes[0], len(table), clock, cut_warnings(video, table.packets))


def _info(
    video: OpenVideo, size: tuple[int, int], frames: int, clock: Clock, warnings: Iterable[str]
) -> VideoInfo:
    codec = video.stream.codec_context.codec.canonical_name
    rate = round(frames / (clock.until - clock.gaps), 6)
    warnings = (*warnings, *clock.warnings())
    return VideoInfo(Path(video.path), *size, frames, round(clock.until, 6), rate, codec, warnings)


def _log_warnings(info: VideoInfo) -> None:
    for warning in info.warnings:
        log.warning("%s: %s", printable(info.path), warning)
