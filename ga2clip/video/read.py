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
from ga2clip.video.deadline import Deadline
from ga2clip.video.decode import Frame, Reader, RgbConverter, upright_size
from ga2clip.video.errors import VideoError
from ga2clip.video.fetch import LocalFile, local_file
from ga2clip.video.preprocess import Frames, Preprocess
from ga2clip.video.sampling import SamplingRule, sample_indices
from ga2clip.video.seek import PacketTable, pick_by_seeking, read_packet_table
from ga2clip.video.source import OpenVideo, open_file
from ga2clip.video.truncation import cut_warnings

log = logging.getLogger(__name__)

Times = npt.NDArray[np.float64]

# Videos with fewer frames are decoded in full: only that gives the exact number of frames and finds all damage.
_LONG = 1000
_MOST_REPEATED = 1024
"""Frames that a clip may have although its video has fewer; each takes the memory of a frame of its own."""


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video, measured by decoding it.

    Attributes:
        path: of the file.
        width: in pixels, upright.
        height: in pixels, upright.
        frames: number of frames that can be decoded.
        duration: seconds from the first frame to the end of the last.
        fps: mean frames per second, not counting long gaps.
        codec: FFmpeg's name of the codec.
        warnings: losses and implausible time stamps, one sentence each.
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
    """Sampled frames (V*T, H, W, 3) uint8 RGB, view after view, and their times in seconds, float64 (V*T,)."""

    frames: Frames
    times: Times
    views: int
    info: VideoInfo

    @property
    def warnings(self) -> tuple[str, ...]:
        """`VideoInfo.warnings`."""
        return self.info.warnings


def probe(path: str | os.PathLike[str], *, time_limit: float | None = 60.0) -> VideoInfo:
    """Decodes a whole file and returns its properties. time_limit: seconds. Raises VideoError."""
    return probe_times(path, time_limit=time_limit)[0]


def probe_times(path: str | os.PathLike[str], *, time_limit: float | None = 60.0) -> tuple[VideoInfo, Times]:
    """As `probe`, with the time of each frame, float64 seconds (N,)."""
    with open_file(path, Deadline(path, time_limit)) as video:
        collector = _Collector(video, [])
        info = _decode(video, collector)
    _log_warnings(info)
    return info, np.array(collector.all_times, np.float64)


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | None = None,
    *,
    size: int | Preprocess | None = None,
    time_limit: float | None = None,
) -> tuple[Frames, Times]:
    """Reads frames by their numbers: uint8 (T, H, W, 3) RGB and their times, float64 seconds (T,).

    indices: numbers of decoded frames, in any order, repetitions allowed; None for every frame. size: as
    `sample_frames`. Raises VideoError for a file that cannot be read, a number that it does not have, or after
    time_limit seconds.
    """
    deadline = Deadline(path, time_limit)
    numbers = None if indices is None else [int(index) for index in indices]
    last = None if numbers is None or min(numbers, default=0) < 0 else max(numbers, default=0)
    info = None
    if last is not None and last >= _LONG:
        with open_file(path, deadline) as video:
            wanted = _Collector(video, numbers, size)
            info = _seek(video, read_packet_table(video), wanted)
    if info is None:
        with open_file(path, deadline) as video:
            wanted = _Collector(video, numbers, size)
            info = _decode(video, wanted, last=last)
    if numbers is None:
        numbers = list(range(info.frames))
    for number in numbers:
        if number not in wanted.kept:
            raise VideoError(
                path, f"it has no frame {number}: {info.frames} frames can be decoded, from 0 on"
            )
    _log_warnings(info)
    return wanted.arrays(numbers, info)


def sample_frames(
    path: str | os.PathLike[str],
    rule: SamplingRule,
    *,
    size: int | Preprocess | None = None,
    time_limit: float | None = 60.0,
) -> SampledClip:
    """Decodes a file and keeps only the frames that a sampling rule selects.

    The rule needs the number of frames. It is first estimated from the header or by counting packets and then checked
    by decoding; only if it was wrong (damage, edit lists, dropped frames) the file is decoded again with the true
    number. Of long files only the neighbourhoods of the selected frames are decoded, if their packets allow it.

    Args:
        path: a file, or a recorded video in a named pipe, at an http address or in standard input ("-"); these are
            copied to a temporary file first.
        rule: which frames.
        size: resize the short side of each frame to this right after decoding, to save memory; a `Preprocess` resizes
            as its `resize` does; None: don't resize.
        time_limit: seconds for reading, not counting the copying; None: no limit.

    Raises:
        VideoError: the video cannot be read, or the time limit has passed.
    """
    with local_file(path) as local:
        return _sample(local, rule, size, Deadline(local.name, time_limit))


def _sample(
    file: LocalFile, rule: SamplingRule, size: int | Preprocess | None, deadline: Deadline
) -> SampledClip:
    info = None
    with open_file(file.path, deadline, file.name) as video:
        count = video.stream.frames
        if 0 < count < _LONG:
            wanted = _Collector(video, _numbers(count, rule), size)
            info = _decode(video, wanted)
        else:
            table = read_packet_table(video)
            count = max(len(table), 1)
            wanted = _Collector(video, _numbers(count, rule), size)
            info = _seek(video, table, wanted)
    while info is None or info.frames != count:
        count = count if info is None else info.frames
        with open_file(file.path, deadline, file.name) as video:
            wanted = _Collector(video, _numbers(count, rule), size)
            info = _decode(video, wanted)
    if len(wanted.numbers) > max(info.frames * rule.clips, _MOST_REPEATED):
        raise VideoError(
            file.name,
            f"{len(wanted.numbers)} frames are wanted of {info.frames}: more than {_MOST_REPEATED} are not repeated",
        )
    _log_warnings(info)
    frames, times = wanted.arrays(wanted.numbers, info)
    return SampledClip(frames, times, rule.clips, info)


class _Collector:
    """Collects the wanted frames as upright RGB frames, with their times.

    numbers: of the wanted frames; None: all. size: as in `sample_frames`.
    """

    def __init__(
        self, video: OpenVideo, numbers: Sequence[int] | None, size: int | Preprocess | None = None
    ) -> None:
        self.numbers = [] if numbers is None else numbers
        self.wanted = None if numbers is None else frozenset(numbers)
        self.kept: dict[int, Frame] = {}
        self.all_times: list[float] = []
        self._times: dict[int, float] = {}
        self._resize = Preprocess(size).resize if isinstance(size, int) else size.resize if size else None
        self._to_rgb = RgbConverter(video.path)

    def offer(self, number: int, frame: VideoFrame, time: float) -> None:
        """Notes the frame's time, and converts it if it is wanted."""
        self.all_times.append(time)
        if self.wanted is not None and number not in self.wanted:
            return
        rgb = self._to_rgb(frame)
        if self._resize is not None:
            rgb = self._resize(rgb[None])[0]
        self.kept[number] = rgb
        self._times[number] = time

    def arrays(self, numbers: Sequence[int], info: VideoInfo) -> tuple[Frames, Times]:
        """The collected frames in the order of `numbers`. Empties the collector to save memory."""
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


def _decode(video: OpenVideo, collector: _Collector, *, last: int | None = None) -> VideoInfo:
    """Decodes from the beginning to the end, or to frame number `last`."""
    reader, clock = Reader(video), Clock(video)
    width = height = 0
    complete = True
    for number, frame in enumerate(reader):
        if number == 0:
            width, height = upright_size(frame)
        collector.offer(number, frame, clock.time(frame))
        if number == last:
            complete = False
            break
    if reader.decoded == 0:
        raise reader.nothing_decoded()
    warnings = reader.warnings() + (cut_warnings(video, reader.packets) if complete else ())
    return _info(video, (width, height), reader.decoded, clock, warnings)


def _seek(video: OpenVideo, table: PacketTable, collector: _Collector) -> VideoInfo | None:
    """Decodes around the wanted frames only. Returns None when seeking is not worth it or not safe."""
    wanted = sorted(collector.wanted or ())
    if len(table) < _LONG or not table.worth_seeking(wanted):
        return None
    sizes = []
    clock = Clock(video)
    times = [clock.at(stamp) for stamp in table.stamps.tolist()]
    clock.stays(table.last_duration)

    def keep(number: int, frame: VideoFrame) -> None:
        sizes.append(upright_size(frame))
        collector.offer(number, frame, times[number])

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
