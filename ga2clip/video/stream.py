"""A video file, camera or network address in; its frames out one at a time, with their times, in constant memory."""

import logging
import math
import os
from collections.abc import Iterator

from ga2clip.errors import UserError
from ga2clip.text import printable
from ga2clip.video.decode import Clock, Picture, Reader, RgbConverter
from ga2clip.video.seek import seek_before
from ga2clip.video.source import OpenVideo, open_stream
from ga2clip.video.truncation import cut_warnings

log = logging.getLogger(__name__)

# Time stamps are rounded (to a millisecond in Matroska): a frame may come so much before its moment, in seconds.
_TOLERANCE = 1e-3


def iter_frames(
    source: str | os.PathLike[str], fps: float | None = None, start: float = 0.0
) -> Iterator[tuple[float, Picture]]:
    """Yields (time in seconds, frame (H, W, 3) uint8 RGB) in display order, without an end for a live source.

    source: a file, an address such as rtsp://…, a camera such as /dev/video0, or "-" for standard input.
    fps: at most so many frames per second of video, None for all: the first frame at or after each of the moments
    start, start + 1 / fps, start + 2 / fps, … start: seconds; earlier frames are left out. Frames that are not
    yielded are not converted. Raises VideoError, and UserError for numbers out of range.

        frames            0   .1   .2   .3   .4   .5   .6   .7   .8
        fps = 4           x              x         x              x      moments 0, .25, .5, .75
    """
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"fps must be above 0, not {fps:g}")
    if not 0 <= start < math.inf:
        raise UserError(f"start must be 0 or more seconds, not {start:g}")
    video, first = _open_before(source, start)
    with video:
        reader, clock, to_rgb = Reader(video), Clock(video, first), RgbConverter(video.path)
        due = start
        for frame in reader:
            time = clock.time(frame)
            if time + _TOLERANCE < due:
                continue
            yield time, to_rgb(frame)
            if fps is not None:
                due = start + (math.floor((time + _TOLERANCE - start) * fps) + 1) / fps
        if reader.decoded == 0:
            raise reader.no_picture()
        whole_file = first is None and not video.live
        for warning in reader.warnings() + (cut_warnings(video, reader.packets) if whole_file else ()):
            log.warning("%s: %s", printable(video.path), warning)


def _open_before(source: str | os.PathLike[str], start: float) -> tuple[OpenVideo, int | None]:
    """An open video that stands at the last key frame before `start`, if it can be sought, with the time stamp
    of its first shown frame; or one that stands at its beginning, with None.
    """
    video = open_stream(source)
    if start == 0 or video.live or video.format == "avi":  # AVI has no true time stamps
        return video, None
    first = next(iter(Reader(video)), None)
    stamp = None if first is None else first.pts
    if stamp is not None and seek_before(video, stamp + int(start / video.time_base)):
        return video, stamp
    video.close()
    return open_stream(source), None
