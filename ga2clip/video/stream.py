"""The frames of a file, camera or address one at a time, with their times, in constant memory."""

import logging
import math
import os
from collections.abc import Iterator

from ga2clip.errors import UserError
from ga2clip.text import printable
from ga2clip.video.clock import Clock, Gap
from ga2clip.video.decode import Frame, Reader, RgbConverter
from ga2clip.video.errors import VideoError
from ga2clip.video.seek import seek_before
from ga2clip.video.source import OpenVideo, open_stream
from ga2clip.video.truncation import cut_warnings

log = logging.getLogger(__name__)

# Tolerance in seconds, since time stamps are rounded (to a millisecond in Matroska).
_TOLERANCE = 1e-3
# Number of jumps and gaps that are logged; a broken source may have one at every frame.
_REPORTED = 5


class Playback:
    """An open video or stream that is read once, from `start` to its end. Use it in a `with` statement or close it."""

    def __init__(self, source: str | os.PathLike[str], fps: float | None = None, start: float = 0.0) -> None:
        """The arguments and errors are those of `iter_frames`."""
        if fps is not None and not 0 < fps < math.inf:
            raise UserError(f"fps must be above 0, not {fps:g}")
        if not 0 <= start < math.inf:
            raise UserError(f"start must be 0 or more seconds, not {start:g}")
        self._fps, self._start = fps, start
        self._video, self._first = _open_before(source, start)
        self._reported = 0

    @property
    def live(self) -> bool:
        """Whether the source is live: frames arrive even if they are not read."""
        return self._video.live

    def close(self) -> None:
        """Ends the connection or closes the file."""
        self._video.close()

    def __enter__(self) -> "Playback":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frames(self) -> Iterator[tuple[float, Frame] | Gap]:
        """As `iter_frames`, with each `Gap` before the frame that ends it.

        Raises VideoError when no frame can be decoded, when the connection of a source that is not a file breaks, and
        when a live source ends.
        """
        video = self._video
        if video.untimed:
            log.info("%s: without time stamps; times are those of arrival", printable(video.path))
        reader, clock, to_rgb = Reader(video), Clock(video, self._first), RgbConverter(video.path)
        due = self._start
        for frame in reader:
            time = clock.time(frame)
            self._report(clock)
            if clock.gap is not None and clock.gap.end > self._start:
                yield clock.gap
            if time + _TOLERANCE < due:
                continue
            yield time, to_rgb(frame)
            if self._fps is not None:
                due = (
                    self._start + (math.floor((time + _TOLERANCE - self._start) * self._fps) + 1) / self._fps
                )
        if reader.decoded == 0:
            raise video.broken or reader.nothing_decoded()
        whole_file = self._first is None and video.kind == "file"
        for warning in reader.warnings() + (cut_warnings(video, reader.packets) if whole_file else ()):
            log.warning("%s: %s", printable(video.path), warning)
        if video.broken:
            raise video.broken
        if reader.read_error and video.kind != "file":
            raise VideoError(video.path, f"it broke off after {clock.until:.1f} s ({reader.read_error})")
        if video.live:
            hint = "check the camera or server, and start again"
            raise VideoError(video.path, f"the live stream ended after {clock.until:.1f} s", hint)

    def _report(self, clock: Clock) -> None:
        if clock.event and self._reported < _REPORTED:
            self._reported += 1
            more = "; more are not reported" if self._reported == _REPORTED else ""
            log.warning("%s: %s%s", printable(self._video.path), clock.event, more)


def iter_frames(
    source: str | os.PathLike[str], fps: float | None = None, start: float = 0.0
) -> Iterator[tuple[float, Frame]]:
    """Yields (time in seconds, frame (H, W, 3) uint8 RGB) in display order; a live source has no end.

        frames            0   .1   .2   .3   .4   .5   .6   .7   .8
        fps = 4           x              x         x              x      moments 0, .25, .5, .75

    Args:
        source: a file, an address such as rtsp://…, a camera such as /dev/video0, a named pipe, or "-" for
            standard input.
        fps: maximal number of frames per second of video: the first frame at or after each of the times start,
            start + 1 / fps, start + 2 / fps, … None: all frames. Frames that are not yielded are not converted.
        start: seconds; earlier frames are skipped.

    Raises:
        VideoError: the source cannot be read, its connection breaks, or it is live and ends.
        UserError: a number is out of range.
    """
    with Playback(source, fps, start) as playback:
        for item in playback.frames():
            if not isinstance(item, Gap):
                yield item


def _open_before(source: str | os.PathLike[str], start: float) -> tuple[OpenVideo, int | None]:
    """An open video, positioned at the last key frame before `start`, and the time stamp of its first shown frame; if
    seeking is not possible, positioned at its beginning, and None.
    """
    video = open_stream(source)
    # AVI has no true time stamps, and with discontinuous ones a time can't be located.
    if start == 0 or video.kind != "file" or video.format == "avi" or video.discontinuous:
        return video, None
    first = next(iter(Reader(video)), None)
    stamp = None if first is None else first.pts
    if stamp is not None and seek_before(video, stamp + int(start / video.time_base)):
        return video, stamp
    video.close()
    return open_stream(source), None
