"""Small video files of every kind, made with PyAV. Each picture shows its own number, so that a decoded frame can
be asked which one it is.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

COLUMNS, ROWS = 4, 3  # twelve blocks: numbers up to 4095


def numbered(number: int, width: int, height: int) -> np.ndarray:
    """A picture (H, W, 3) whose 4 × 3 blocks, dark or bright, are the bits of `number`."""
    bits = np.array([number >> k & 1 for k in range(COLUMNS * ROWS)], np.uint8).reshape(ROWS, COLUMNS)
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    return np.repeat((40 + 170 * bits)[rows][:, columns, None], 3, axis=2).astype(np.uint8)


def numbers_of(frames: np.ndarray) -> list[int]:
    """The numbers that frames (T, H, W, 3) show."""
    _, height, width, _ = frames.shape
    ys = (np.arange(ROWS) * 2 + 1) * height // (2 * ROWS)
    xs = (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    bits = frames[:, ys][:, :, xs, 0].reshape(len(frames), -1) > 125
    return (bits @ (1 << np.arange(COLUMNS * ROWS))).tolist()


def encode(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    fps: int = 24,
    format: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    shift: int = 0,
    sound: int = 0,
    interlaced: bool = False,
) -> Path:
    """Writes `count` numbered pictures. pts: their times in milliseconds, for a variable frame rate. shift: added
    to all time stamps, in frames. sound: seconds of silence beside them. Returns the path.
    """
    with av.open(f"file:{path}", "w", format=format, container_options=container_options) as container:
        video = container.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height = size
        video.pix_fmt = pix_fmt
        video.thread_count = 1
        if pts is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        if interlaced:
            video.codec_context.flags |= (
                av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
            )
        audio = container.add_stream("aac", rate=16000) if sound else None
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
            picture.pts = number if pts is None else pts[number]
            if pts is not None:
                picture.time_base = Fraction(1, 1000)
            _mux(container, video.encode(picture), shift, fps)
        _mux(container, video.encode(None), shift, fps)
        if audio is not None:
            for number in range(sound * 16000 // 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                silence.sample_rate, silence.pts = 16000, number * 1024
                container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
    return path


def _mux(container: Any, packets: list[av.Packet], shift: int, fps: int) -> None:
    for packet in packets:
        if shift:
            units = round(shift / fps / packet.time_base)
            packet.pts += units
            packet.dts += units
        container.mux(packet)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy clip: H.264 with B-frames in MP4, 64×48, 72 frames, 24 per second, key frames 24 apart."""
    path = tmp_path_factory.mktemp("reference") / "reference.mp4"
    return encode(path, 72, options={"g": "24", "crf": "18"}, container_options={"movflags": "faststart"})


@pytest.fixture(scope="session")
def make() -> Callable[..., Path]:
    """The function that writes a video file: make(path, count, **how)."""
    return encode


@pytest.fixture
def shown() -> Callable[[np.ndarray], list[int]]:
    """The function that tells which pictures frames (T, H, W, 3) are."""
    return numbers_of
