"""Every kind of file is read in full, in order and at the right times."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ga2clip.video import SamplingRule, VideoError, probe, read_frames, sample_frames

Make = Callable[..., Path]
Shown = Callable[[np.ndarray], list[int]]

KINDS: dict[str, dict[str, Any]] = {
    "h264_b_frames.mp4": {"options": {"bf": "3", "g": "12"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "live.mkv": {"container_options": {"live": "1"}},
    "hevc_10_bit.mp4": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"x265-params": "log-level=0"},
    },
    "422_10_bit.mp4": {"pix_fmt": "yuv422p10le"},
    "444.mp4": {"pix_fmt": "yuv444p"},
    "grey.mp4": {"pix_fmt": "gray"},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}},
    "vp8.webm": {"codec": "libvpx", "options": {"b": "1M"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"b": "1M", "deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"b": "1M"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "sorenson.flv": {"codec": "flv", "options": {"b": "1M"}},
    "h263.3gp": {"codec": "h263", "size": (176, 144), "options": {"b": "1M"}},
    "animated.gif": {"codec": "gif", "pix_fmt": "rgb8", "fps": 10},
    "transport.ts": {"options": {"g": "12"}},
    "annexb.h264": {"format": "h264"},
    "interlaced_h264.mp4": {"options": {"x264-params": "tff=1"}, "interlaced": True},
    "interlaced_mpeg2.mpg": {"codec": "mpeg2video", "fps": 25, "options": {"b": "1M"}, "interlaced": True},
    "interlaced_mpeg4.avi": {"codec": "mpeg4", "options": {"b": "1M"}, "interlaced": True},
    "odd_444.mp4": {"size": (65, 49), "pix_fmt": "yuv444p"},
    "odd.avi": {"codec": "mpeg4", "size": (65, 49), "options": {"b": "1M"}},
    "odd.webm": {"codec": "libvpx-vp9", "size": (65, 49), "options": {"b": "1M", "cpu-used": "8"}},
    "portrait.mp4": {"size": (48, 64)},
    "tiny.mp4": {"size": (16, 16)},
    "NO_EXTENSION": {"format": "mp4"},
    "CAPITALS.MP4": {},
    "really_mp4.avi": {"format": "mp4"},
    "sound_is_longer.mp4": {"sound": 3},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_of_every_kind(name: str, tmp_path: Path, make: Make, shown: Shown) -> None:
    how = KINDS[name]
    width, height = how.get("size", (64, 48))
    fps = how.get("fps", 24)
    path = make(tmp_path / name, 30, **how)

    info = probe(path)
    assert (info.frames, info.width, info.height, info.warnings) == (30, width, height, ())
    assert info.duration == pytest.approx(30 / fps, abs=0.011)

    frames, times = read_frames(path)
    assert frames.dtype == np.uint8
    assert frames.shape == (30, height, width, 3)
    assert shown(frames) == list(range(30))
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, np.arange(30) / fps, atol=0.006 if name.endswith("gif") else 0.001)

    clip = sample_frames(path, SamplingRule(5))
    assert shown(clip.frames) == [3, 9, 15, 21, 27]
    np.testing.assert_array_equal(clip.frames, frames[[3, 9, 15, 21, 27]])
    np.testing.assert_array_equal(clip.times, times[[3, 9, 15, 21, 27]])
    assert clip.info == info


def test_grey_has_three_equal_channels(tmp_path: Path, make: Make) -> None:
    frames, _ = read_frames(make(tmp_path / "grey.mp4", 3, pix_fmt="gray"))
    assert np.ptp(frames, axis=-1).max() == 0


@pytest.mark.parametrize("count", [1, 3])
def test_few_frames_are_repeated(count: int, tmp_path: Path, make: Make, shown: Shown) -> None:
    clip = sample_frames(make(tmp_path / "short.mp4", count), SamplingRule(8))
    assert shown(clip.frames) == [k * count // 16 for k in range(1, 17, 2)]
    assert clip.info.frames == count


def test_variable_frame_rate_keeps_its_times(tmp_path: Path, make: Make, shown: Shown) -> None:
    milliseconds = [0, 40, 80, 120, 500, 900, 1300, 1310, 1320, 2000]
    path = make(tmp_path / "variable.mkv", 10, pts=milliseconds)
    frames, times = read_frames(path)
    assert shown(frames) == list(range(10))
    np.testing.assert_allclose(times, np.array(milliseconds) / 1000, atol=1e-9)


def test_time_zero_is_the_first_shown_frame(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "late.mp4", 24, shift=36, sound=3)
    info = probe(path)
    assert info.duration == pytest.approx(1.0)
    assert read_frames(path)[1][0] == 0.0


def test_edit_list_hides_frames(tmp_path: Path, make: Make, shown: Shown) -> None:
    path = make(tmp_path / "edited.mp4", 24, shift=-5, container_options={"avoid_negative_ts": "disabled"})
    info = probe(path)
    frames, times = read_frames(path)
    assert info.frames == len(frames) == 19
    assert shown(frames) == list(range(5, 24))
    np.testing.assert_allclose(times, np.arange(19) / 24, atol=1e-4)
    assert shown(sample_frames(path, SamplingRule(2)).frames) == [5 + 4, 5 + 14]
    assert info.warnings == ()


def test_dropped_frames_of_avi_are_not_a_cut(tmp_path: Path, make: Make, shown: Shown) -> None:
    """Recorders write an empty chunk where nothing changed; the header counts it, no picture comes out."""
    path = make(tmp_path / "dropped.avi", 10, codec="mpeg4", options={"b": "1M", "bf": "0", "g": "1"})
    _empty_avi_chunks(path, {4, 7})
    frames, times = read_frames(path)
    assert shown(frames) == [0, 1, 2, 3, 5, 6, 8, 9]
    np.testing.assert_allclose(times, np.array([0, 1, 2, 3, 5, 6, 8, 9]) / 24)
    clip = sample_frames(path, SamplingRule(4))
    assert shown(clip.frames) == [1, 3, 6, 9]
    assert clip.warnings == ()


def test_first_of_several_video_streams(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=10) for _ in range(2)]
        for stream, side in zip(streams, (32, 64), strict=True):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        for number in range(4):
            for stream, side in zip(streams, (32, 64), strict=True):
                frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert read_frames(path)[0].shape == (4, 32, 32, 3)


@pytest.mark.parametrize("matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [
    (0, b, c, 0) for b in (1, -1) for c in (1, -1)
])  # fmt: skip
def test_all_eight_orientations(
    matrix: tuple[int, int, int, int], reference: Path, tmp_path: Path, make: Make
) -> None:
    """Each stored pixel (p, q) must come out at (a·p + c·q, b·p + d·q), moved to where coordinates start at 0."""
    stored, _ = read_frames(reference, [37])
    a, b, c, d = matrix
    data = bytearray(reference.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)

    q, p = np.mgrid[:48, :64]
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    upright = np.empty((y.max() + 1, x.max() + 1, 3), np.uint8)
    upright[y, x] = stored[0]

    np.testing.assert_array_equal(read_frames(path, [37])[0][0], upright)
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]


def test_indices_in_any_order(reference: Path, shown: Shown) -> None:
    frames, times = read_frames(reference, [50, 3, 3, 71, 0])
    assert shown(frames) == [50, 3, 3, 71, 0]
    np.testing.assert_allclose(times, np.array([50, 3, 3, 71, 0]) / 24, atol=1e-6)
    assert read_frames(reference, [])[0].shape == (0, 48, 64, 3)
    assert shown(read_frames(reference, np.array([2, 1]))[0]) == [2, 1]


@pytest.mark.parametrize("wrong", [72, -1, 5000])
def test_number_that_does_not_exist(wrong: int, reference: Path) -> None:
    with pytest.raises(VideoError, match=f"no frame {wrong}: 72 frames can be decoded"):
        read_frames(reference, [0, wrong])


def test_views_and_size(reference: Path, shown: Shown) -> None:
    clip = sample_frames(reference, SamplingRule(3, clips=2), size=24)
    assert clip.views == 2
    assert clip.frames.shape == (6, 24, 32, 3)
    assert shown(clip.frames) == [6, 30, 54, 18, 42, 66]


def test_training_samples_follow_the_seed(reference: Path) -> None:
    rule = SamplingRule(8, train=True, seed=3)
    first, second = sample_frames(reference, rule), sample_frames(reference, rule)
    other = sample_frames(reference, SamplingRule(8, train=True, seed=4))
    np.testing.assert_array_equal(first.frames, second.frames)
    assert not np.array_equal(first.times, other.times)


def test_import_stays_light() -> None:
    code = "import sys, ga2clip.video; print([m for m in ('torch', 'cv2', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _empty_avi_chunks(path: Path, empty: set[int]) -> None:
    """Rewrites the picture list of a small AVI file with some chunks empty."""
    data = path.read_bytes()
    start = data.index(b"movi") + 4
    at, body, index, number = start, b"", b"", 0
    while data[at : at + 4] == b"00dc":
        length = struct.unpack("<I", data[at + 4 : at + 8])[0]
        padded = length + length % 2
        chunk = b"" if number in empty else data[at + 8 : at + 8 + padded]
        kept = 0 if number in empty else length
        index += b"00dc" + struct.pack("<III", 16, 4 + len(body), kept)
        body += b"00dc" + struct.pack("<I", kept) + chunk
        at, number = at + 8 + padded, number + 1
    movi = b"LIST" + struct.pack("<I", 4 + len(body)) + b"movi" + body
    whole = data[: start - 12] + movi + b"idx1" + struct.pack("<I", len(index)) + index
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
