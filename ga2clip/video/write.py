"""Writing frames (T, H, W, 3) uint8 RGB to a video file."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import replacing
from ga2clip.text import printable
from ga2clip.video.decode import Frame


def write_video(path: str | os.PathLike[str], frames: Iterable[Frame], fps: float, *, crf: int = 20) -> None:
    """Writes an MP4 file with H.264 (4:2:0, one thread, so that the same frames give the same bytes).

    The file appears under its name only when it is complete.

    Args:
        path: the file.
        frames: frames (H, W, 3) uint8 RGB of one size: an array (T, H, W, 3), or any iterable, consumed one by one. If
            a side is odd, the last row or column is dropped, because 4:2:0 needs even sides.
        fps: frames per second.
        crf: constant rate factor of x264, 0 (lossless) to 51.

    Raises:
        UserError: there are no frames, or the file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        _encode(temporary, frames, fps, crf)


def _encode(path: Path, frames: Iterable[Frame], fps: float, crf: int) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    # bitexact: no dates and versions in the file.
    with av.open(f"file:{path}", "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
        stream.thread_count = 1
        stream.pix_fmt = "yuv420p"
        size: tuple[int, int] | None = None
        for number, frame in enumerate(frames):
            height, width = frame.shape[0] & ~1, frame.shape[1] & ~1
            if size is None:
                size = stream.height, stream.width = height, width
            elif size != (height, width):
                raise UserError(
                    f"frame {number} is {width}×{height}, the ones before are {size[1]}×{size[0]}"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture))
        if size is None:
            raise UserError(f"cannot write a video without frames to '{printable(path)}'")
        container.mux(stream.encode(None))
