"""The time of each frame of a video, in seconds from the first shown frame, robust against wrong time stamps.

Time stamps are used as long as they are plausible. Otherwise:

| the time stamps | the times |
|---|---|
| are missing, or repeated more than three times | advance by one frame step |
| are repeated, or go back by a few frames | advance by less than a step, so that the stamps catch up |
| go back further | advance by one frame step: a jump, with a warning |
| go forward by more than 1 s or ten frame steps, in a format with discontinuous time (MPEG-TS, HLS, …) | the same |
| go forward by more than 10 s, in a live source | the same |
| go forward by more than 10 s, in any other format | follow the stamps: a gap, in which nothing is shown |
| are all missing, in a pipe or a live source | are the times of arrival |
"""

import statistics
import time as wall
from collections import deque
from dataclasses import dataclass

from av.video.frame import VideoFrame

from ga2clip.video.source import OpenVideo

# FFmpeg's own threshold of a discontinuity (ffmpeg -dts_delta_threshold), in seconds.
_LONG_STEP = 10.0
# In formats with discontinuous time, the longest step that is believed: this many seconds, or frames if that is longer.
# MPEG demands a time stamp at least every 0.7 s (ISO/IEC 13818-1, section 2.7.4): a longer step is a cut or a joint.
_JUMP = 1.0
_JUMP_STEPS = 10
# FFmpeg's threshold for steps back (ffmpeg_demux.c, ts_discontinuity_detect).
_STEP_BACK = 0.1
# Nominal frame rates below one frame per minute are not trusted.
_SLOWEST = 60.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Gap:
    """An unusually long time, from `start` to `end` in seconds, in which a video shows nothing."""

    start: float
    end: float


class Clock:
    """Gives each frame its time in seconds. The first shown frame has time 0; times never decrease.

    Attributes:
        gap: the gap right before the last frame passed to `time`, or None.
        event: a sentence about a jump or gap right before that frame, or "".
        gaps: total seconds of all gaps so far.
        until: the time in seconds at which that frame disappears.
    """

    def __init__(self, video: OpenVideo, first: int | None = None) -> None:
        """first: the time stamp of the first shown frame, if reading starts at a later one."""
        rate = video.stream.guessed_rate or video.stream.average_rate
        self._unit = float(video.time_base)
        self._nominal = min(float(1 / rate), _SLOWEST) if rate else 1 / 25
        self._steps: deque[float] = deque(maxlen=9)
        self._limit = max(_LONG_STEP, 2 * self._nominal)
        self._discontinuous = video.discontinuous
        self._live = video.live
        # AVI has no presentation times: what FFmpeg invents runs backwards with packed B-frames (UCF101 has
        # them), while the order of decoding is right.
        self._by_decoding = video.format == "avi"
        self._untimed = video.untimed
        self._arrived: float | None = None
        self._first: float | None = first
        self._last: float | None = None
        self._last_stamp: int | None = None
        self.until = 0.0
        self._repeats = 0
        self.gap: Gap | None = None
        self.event = ""
        self.gaps = 0.0
        self._found = {"jump": 0, "gap": 0}
        self._first_found: dict[str, str] = {}

    def time(self, frame: VideoFrame) -> float:
        """The time of the next frame, in seconds."""
        stamp = frame.dts if self._by_decoding else frame.pts
        time = self._on_arrival() if self._untimed else self.at(stamp)
        self.stays(frame.duration)
        return time

    def stays(self, duration: int | None) -> None:
        """Set `until` from the duration of the last frame, in units of its time base.

        A duration of more than 10 s only counts once the next frame confirms it.
        """
        claimed = (duration or 0) * self._unit
        if self._last is not None and 0 < claimed <= self._limit:
            self.until = self._last + claimed

    def at(self, stamp: int | None) -> float:
        """The time of the next frame, whose time stamp is `stamp`, in seconds."""
        self.gap, self.event = None, ""
        last = self._last
        expected = 0.0 if last is None else last + self._step()
        if stamp is None:
            return self._go_to(expected)
        longest = self._longest_step()
        if self._last_stamp is not None and 0 < (stamp - self._last_stamp) * self._unit <= longest:
            self._steps.append((stamp - self._last_stamp) * self._unit)
        self._last_stamp = stamp
        if self._first is None:
            self._first = stamp - expected / self._unit
        stamped = (stamp - self._first) * self._unit
        if last is None:
            return self._go_to(max(stamped, 0.0))
        if stamped <= last + _ROUNDING:
            return self._go_to(self._without_progress(stamp, stamped, last, expected))
        self._repeats = 0
        if stamped - last > longest and self._discontinuous:
            self._restart(stamp, expected, stamped - last)
            stamped = expected
        elif stamped - last > longest:
            self._note_gap(self.until, stamped)
        return self._go_to(stamped)

    def warnings(self) -> tuple[str, ...]:
        """One sentence for each jump of the time stamps and each gap."""
        return tuple(
            text if self._found[kind] == 1 else f"{text} (and {self._found[kind] - 1} more such {kind})"
            for kind, text in self._first_found.items()
        )

    def _step(self) -> float:
        """Seconds per frame: the median of the last steps and of the header's frame rate, which may be wrong."""
        return statistics.median_low([*self._steps, self._nominal])

    def _longest_step(self) -> float:
        """Seconds from one frame to the next that are believed. In live sources, time does pass while nothing comes."""
        if self._discontinuous and not self._live:
            return min(self._limit, max(_JUMP, _JUMP_STEPS * self._step()))
        return self._limit

    def _go_to(self, time: float) -> float:
        self._last = time
        self.until = time + self._step()
        return time

    def _on_arrival(self) -> float:
        now = wall.monotonic()
        self.gap, self.event = None, ""
        if self._arrived is None or self._last is None:
            self._arrived = now
            return self._go_to(0.0)
        time = max(now - self._arrived, self._last)
        if time - self._last > self._limit:
            self._note_gap(self.until, time)
        else:
            self._steps.append(time - self._last)
        return self._go_to(time)

    def _without_progress(self, stamp: int, stamped: float, last: float, expected: float) -> float:
        """The time of a frame whose stamp does not increase."""
        # Discontinuous formats: FFmpeg's rule. Other formats: frames may be out of order by a few steps.
        tolerated = _STEP_BACK if self._discontinuous else max(_STEP_BACK, 4 * self._step())
        if last - stamped > tolerated:
            self._restart(stamp, expected, stamped - last)
            return expected
        self._repeats += 1
        if self._repeats > 3:
            self._first = stamp - expected / self._unit
            return expected
        return last + self._step() / 2**self._repeats

    def _restart(self, stamp: int, time: float, jump: float) -> None:
        """From now on, map time stamps such that this stamp is at `time`."""
        self._first = stamp - time / self._unit
        self._note("jump", f"the time stamps jump by {jump:+.6g} s at {time:.2f} s: taken as one frame step")

    def _note_gap(self, start: float, end: float) -> None:
        self.gap = Gap(round(start, 6), round(end, 6))
        self.gaps += end - start
        self._note("gap", f"nothing is shown from {start:.2f} s to {end:.2f} s")

    def _note(self, kind: str, text: str) -> None:
        self.event = text
        self._found[kind] += 1
        self._first_found.setdefault(kind, text)
