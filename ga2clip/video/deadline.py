"""When reading a video is given up."""

import os
import time

from ga2clip.video import fetch
from ga2clip.video.errors import VideoError


class Deadline:
    """A time limit for reading one file. seconds None: only `silence` seconds (10) without data are an error."""

    def __init__(
        self, path: str | os.PathLike[str], seconds: float | None, silence: float | None = None
    ) -> None:
        self._path = os.fsdecode(path)
        self._seconds = seconds
        self.silence = fetch.SILENCE if silence is None else silence
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, at least a millisecond; None without one."""
        return None if self._end is None else max(self._end - time.monotonic(), 1e-3)

    def check(self) -> None:
        """Raises VideoError when the time limit has passed."""
        if self._end is not None and time.monotonic() > self._end:
            raise self.error()

    def error(self) -> VideoError:
        """The error for an exceeded time limit, or for a silent stream."""
        if self._seconds is None:
            hint = "check the address, and that the camera is on"
            return VideoError(self._path, f"no data for {self.silence:g} s", hint)
        return VideoError(
            self._path,
            f"reading it took longer than {self._seconds:g} s",
            "raise the time limit if the file is very long, or make a smaller copy",
        )
