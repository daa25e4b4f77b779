"""Converts animated WebP, which FFmpeg does not decode, to lossless FFV1 in Matroska."""

import tempfile
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from ga2clip.video.deadline import Deadline
from ga2clip.video.errors import VideoError

_SHORTEST = 10  # milliseconds; viewers also show frames without a duration for a moment
_MOST_PIXELS = 1 << 30  # of all frames: three GiB before compression


def animated_webp(name: str, path: str, deadline: Deadline) -> BinaryIO | None:
    """Convert an animated WebP file to a video. Transparent pixels keep their stored colours.

    Returns:
        An unnamed temporary file, positioned at its beginning; None for a still picture.

    Raises:
        VideoError: the file is damaged or too large, or the deadline has passed.
    """
    try:
        with Image.open(path, formats=["WEBP"]) as picture:
            count = getattr(picture, "n_frames", 1)
            if count < 2:
                return None
            if count * picture.width * picture.height > _MOST_PIXELS:
                raise VideoError(name, "the animation is too large", "convert it to MP4")
            return _as_matroska(picture, count, deadline)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(name, f"the animated WebP picture cannot be decoded ({error})") from None


def _as_matroska(picture: Any, count: int, deadline: Deadline) -> BinaryIO:
    out = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        time = 0
        for number in range(count):
            deadline.check()
            picture.seek(number)
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format="bgr0")))
            time += max(int(picture.info.get("duration", 0)), _SHORTEST)
        container.mux(stream.encode(None))
    out.seek(0)
    return out
