"""Colours, ranges, transparency, sizes, lengths and animated pictures: what is decoded is what was drawn."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from ga2clip.video import SamplingRule, VideoError, iter_frames, probe, read_frames, sample_frames

Make = Callable[..., Path]
COLOURS = np.array(
    [[200, 40, 40], [40, 200, 40], [40, 40, 200], [230, 230, 230], [20, 20, 20], [128, 128, 128]]
)

# Luma coefficients (kr, kb): ITU-R BT.601-7 and BT.709-6, section 3.
MATRIX = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}


def yuv(colours: np.ndarray, matrix: str, *, full: bool) -> np.ndarray:
    """8-bit RGB (N, 3) → 8-bit Y'CbCr (N, 3), by the equations of the standards."""
    kr, kb = MATRIX[matrix]
    r, g, b = (colours / 255).T
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    scaled = (
        (255 * y, 255 * cb + 128, 255 * cr + 128) if full else (219 * y + 16, 224 * cb + 128, 224 * cr + 128)
    )
    return np.stack(scaled, axis=1).round().astype(np.uint8)


def write_yuv(path: Path, planes: np.ndarray, *, full: bool, matrix: str) -> Path:
    """A lossless H.264 video of 3 frames, six stripes of 16 pixels, tagged with its range and matrix."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 32, "yuv444p"
        context = stream.codec_context
        context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        context.colorspace = Colorspace.ITU709 if matrix == "709" else Colorspace.ITU601
        stripes = np.repeat(planes.T[:, None, :], 32, axis=1).repeat(16, axis=2)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stripes), format="yuv444p")
            frame.color_range, frame.colorspace, frame.pts = context.color_range, context.colorspace, number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709"])
def test_range_and_matrix(matrix: str, full: bool, tmp_path: Path) -> None:
    path = write_yuv(tmp_path / "tagged.mp4", yuv(COLOURS, matrix, full=full), full=full, matrix=matrix)
    frames, _ = read_frames(path)
    np.testing.assert_allclose(frames[1, 16, 8::16].astype(int), COLOURS, atol=3)
    if not full:
        wrong = write_yuv(tmp_path / "wrong.mp4", yuv(COLOURS, matrix, full=full), full=True, matrix=matrix)
        assert np.abs(read_frames(wrong)[0][1, 16, 8::16].astype(int) - COLOURS).max() > 10


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", "webm"), ("ffv1", "mkv"), ("qtrle", "mov")])
def test_transparency_is_left_out(codec: str, suffix: str, tmp_path: Path) -> None:
    pix_fmt = {"libvpx-vp9": "yuva420p", "ffv1": "bgra", "qtrle": "argb"}[codec]
    path = tmp_path / f"alpha.{suffix}"
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = (210, 60, 40, 255)
    rgba[:, 32:] = (40, 60, 210, 0)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = read_frames(path)
    assert frames.shape == (4, 48, 64, 3)
    np.testing.assert_allclose(frames[2, 24, 8].astype(int), (210, 60, 40), atol=12)
    np.testing.assert_allclose(frames[2, 24, 56].astype(int), (40, 60, 210), atol=12)


def test_eight_k(tmp_path: Path) -> None:
    path = tmp_path / "large.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("rawvideo", rate=1)
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "gray"
        grey = np.zeros((4320, 7680), np.uint8)
        grey[:, 3840:] = 200
        frame = av.VideoFrame.from_ndarray(grey, format="gray")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = sample_frames(path, SamplingRule(2), size=224)
    assert (clip.info.width, clip.info.height, clip.info.frames) == (7680, 4320, 1)
    assert clip.frames.shape == (2, 224, 398, 3)
    assert abs(int(clip.frames[0, 100, 30].mean()) - 0) < 5
    assert abs(int(clip.frames[0, 100, 370].mean()) - 200) < 5


def test_two_hours_of_few_frames(
    tmp_path: Path, make: Make, shown: Callable[[np.ndarray], list[int]]
) -> None:
    path = make(tmp_path / "long.mp4", 1440, fps=25, pts=[5000 * n for n in range(1440)], options={"g": "60"})
    clip = sample_frames(path, SamplingRule(8))
    assert shown(clip.frames) == [90 + 180 * n for n in range(8)]
    np.testing.assert_allclose(clip.times, 5.0 * np.array(shown(clip.frames)), atol=1e-3)
    assert clip.info.duration == pytest.approx(7200, abs=5.1)
    assert clip.warnings == ()
    assert [t for t, _ in iter_frames(path, fps=1 / 600)] == pytest.approx([600 * n for n in range(12)])


def test_a_variable_frame_rate_keeps_the_files_times(tmp_path: Path, make: Make) -> None:
    pts = [*range(0, 1000, 40), *range(1000, 3000, 160), *range(3000, 4000, 83)]
    path = make(tmp_path / "variable.mp4", len(pts), pts=pts)
    np.testing.assert_allclose(read_frames(path)[1], np.array(pts) / 1000, atol=1e-3)
    assert probe(path).fps == pytest.approx(len(pts) / 4, rel=0.05)


# Animated pictures


def animation(path: Path, durations: list[int], **how: object) -> Path:
    frames = [Image.new("RGB", (64, 48), (30 + 40 * n, 100, 220 - 40 * n)) for n in range(len(durations))]
    duration = durations if len(durations) > 1 else durations[0]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, **how)
    return path


def test_animated_webp(tmp_path: Path) -> None:
    for name in ("a.webp", "named.mp4"):
        path = animation(tmp_path / name, [100, 200, 50, 70], format="WEBP", lossless=True)
        frames, times = read_frames(path)
        assert frames[:, 24, 32].tolist() == [[30 + 40 * n, 100, 220 - 40 * n] for n in range(4)]
        np.testing.assert_allclose(times, [0, 0.1, 0.3, 0.35], atol=1e-3)
        assert len(list(iter_frames(path, fps=5))) == 2
        assert sample_frames(path, SamplingRule(8)).info.frames == 4


def test_animated_avif(tmp_path: Path) -> None:
    frames, times = read_frames(animation(tmp_path / "a.avif", [100] * 4, quality=95))
    np.testing.assert_allclose(
        frames[:, 24, 32], [[30 + 40 * n, 100, 220 - 40 * n] for n in range(4)], atol=6
    )
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3], atol=1e-3)


@pytest.mark.parametrize("suffix", ["webp", "avif", "png"])
def test_still_pictures(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"still.{suffix}"
    Image.new("RGB", (64, 48), (30, 100, 220)).save(path)
    with pytest.raises(VideoError, match="still picture"):
        read_frames(path)


def test_a_damaged_animation(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", [100] * 8)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(VideoError, match=r"a\.webp"):
        read_frames(path)


def test_fractions_of_a_frame_rate(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "ntsc.mkv", 30, fps=Fraction(30000, 1001))
    assert probe(path).fps == pytest.approx(29.97, rel=0.01)
