"""Frames (T, H, W, 3) uint8 RGB in; a video file on disk out."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ga2clip.errors import UserError
from ga2clip.files import replacing
from ga2clip.text import printable
from ga2clip.video.decode import Picture


def write_video(
    path: str | os.PathLike[str], frames: Iterable[Picture], fps: float, *, crf: int = 20
) -> None:
    """Writes H.264 (4:2:0, one thread: the same frames give the same bytes) into an MP4 file.

    frames: pictures (H, W, 3) uint8 RGB of one size, an array (T, H, W, 3) or any iterable, taken one at a time.
    Sides that are odd lose their last row or column, since 4:2:0 has none. fps: frames per second. crf: constant
    rate factor of x264, 0 (lossless) to 51. The file appears under its name only when it is complete. Raises
    UserError when there is no frame or the file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        _encode(temporary, frames, fps, crf)


def _encode(path: Path, frames: Iterable[Picture], fps: float, crf: int) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    # bitexact leaves out dates and versions.
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
