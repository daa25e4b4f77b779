"""Damaged files are read past the damage and say so; what is no video is a clear error; nothing hangs."""

import os
import pickle
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ga2clip.video.fetch as fetch
from ga2clip.video import SamplingRule, VideoError, iter_frames, probe, read_frames, sample_frames

Make = Callable[..., Path]
Shown = Callable[[np.ndarray], list[int]]


def cut(path: Path, target: Path, packet: int) -> Path:
    """Copies a file up to the middle of one of its packets."""
    position, size = sample_positions(path)[packet]
    target.write_bytes(path.read_bytes()[: position + size // 2])
    return target


def sample_positions(path: Path) -> list[tuple[int, int]]:
    """(position, size) of each packet in a file, in the order of the file."""
    import av

    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_cut_mp4_is_sampled_over_what_is_there(reference: Path, tmp_path: Path, shown: Shown) -> None:
    path = cut(reference, tmp_path / "cut.mp4", 40)
    info = probe(path)
    assert 30 < info.frames <= 40
    clip = sample_frames(path, SamplingRule(4))
    numbers = shown(clip.frames)
    assert numbers == [int((k + 0.5) * info.frames / 4) for k in range(4)]
    assert any("ends early: its header promises 72 frames" in warning for warning in clip.warnings)
    assert clip.info == info
    with pytest.raises(VideoError, match=f"{info.frames} frames can be decoded"):
        read_frames(path, [71])


@pytest.mark.parametrize(
    ("name", "how"), [("cut.mkv", {}), ("cut.avi", {"codec": "mpeg4"}), ("cut.webm", {"codec": "libvpx"})]
)
def test_cut_mkv_and_avi_say_so(name: str, how: dict[str, str], tmp_path: Path, make: Make) -> None:
    whole = make(tmp_path / f"whole_{name}", 48, **how)
    assert probe(whole).warnings == ()
    info = probe(cut(whole, tmp_path / name, 30))
    assert 20 < info.frames < 48
    assert "the file ends early" in " ".join(info.warnings)


def test_undecodable_packet_is_skipped(reference: Path, tmp_path: Path, shown: Shown) -> None:
    data = bytearray(reference.read_bytes())
    position, size = sample_positions(reference)[60]
    data[position : position + size] = b"\xff" * size
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    frames, _ = read_frames(path)
    assert len(frames) == 71
    assert shown(frames)[-5:] == [67, 68, 69, 70, 71]
    clip = sample_frames(path, SamplingRule(8))
    assert clip.info.frames == 71
    assert "1 of 72 frames could not be decoded" in " ".join(clip.warnings)


def test_flipped_bits_give_the_same_pixels_each_time(
    reference: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(reference.read_bytes())
    rng = np.random.default_rng(0)
    for position, size in sample_positions(reference)[5::3]:
        data[position + size // 2 + int(rng.integers(size // 4))] ^= 1 << int(rng.integers(8))
    path = tmp_path / "bits.mp4"
    path.write_bytes(data)
    first, _ = read_frames(path)
    assert len(first) > 60
    for _ in range(3):
        np.testing.assert_array_equal(read_frames(path)[0], first)
    assert probe(path).warnings
    assert "bits.mp4" in caplog.text  # the warning is logged, under the file's name
    assert capfd.readouterr() == ("", "")  # and FFmpeg itself is silent


def test_not_videos(reference: Path, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_WRITER", 0.05)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "picture.jpg")
    (tmp_path / "picture.jpg").rename(tmp_path / "picture.mp4")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "picture.png")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 3)
    (tmp_path / "readme.txt").write_text("this is no video\n" * 30)
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(60_000))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    cut(make(tmp_path / "index_last.mp4", 24), tmp_path / "no_index.mp4", 20)
    (tmp_path / "header_only.mp4").write_bytes(reference.read_bytes()[:60])
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    expected = {
        "picture.mp4": "still picture",
        "picture.png": "still picture",
        "text.mp4": "not a video file",
        "readme.txt": "text file",
        "random.mp4": "not a video file",
        "empty.mp4": "empty",
        "folder.mp4": "directory",
        "pipe.mp4": "named pipe",
        "no_index.mp4": "truncated",
        "header_only.mp4": "cut off after its header",
        "dangling.mp4": "no such file",
        "missing.mp4": "no such file",
        "loop.mp4": "too many levels of symbolic links",
        "nul\0.mp4": "null character",
        "x" * 300 + ".mp4": "file name too long",
    }
    for name, reason in expected.items():
        path = f"{tmp_path}/{name}"
        for read in (
            probe,
            read_frames,
            lambda p: sample_frames(p, SamplingRule(8)),
            lambda p: next(iter_frames(p)),
        ):
            with pytest.raises(VideoError, match=reason) as caught:
                read(path)
            assert caught.value.path == path
            assert name.replace("\0", "\\x00") in str(caught.value)
    with pytest.raises(VideoError, match="device or a socket"):
        probe("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            server.bind("socket.mp4")
            with pytest.raises(VideoError, match="device or a socket"):
                probe("socket.mp4")
        finally:
            os.chdir(here)


def test_sound_and_cover_pictures_are_no_video(tmp_path: Path) -> None:
    import av

    for cover in (False, True):
        path = tmp_path / f"song_{cover}.mp4"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=16000)
            if cover:
                picture = container.add_stream("mjpeg", rate=1)
                picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
            for number in range(8):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                silence.sample_rate, silence.pts = 16000, number * 1024
                container.mux(sound.encode(silence))
            if cover:
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                container.mux(picture.encode(frame))
                container.mux(picture.encode(None))
            container.mux(sound.encode(None))
        with pytest.raises(VideoError, match="only a still picture" if cover else "no video stream"):
            probe(path)


def test_unknown_codec(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "unknown.mp4"
    path.write_bytes(reference.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="codec is not supported"):
        probe(path)


def test_nothing_decodable(reference: Path, tmp_path: Path) -> None:
    data = bytearray(reference.read_bytes())
    for position, size in sample_positions(reference):
        data[position : position + size] = b"\xff" * size
    path = tmp_path / "garbage.mp4"
    path.write_bytes(data)
    for read in (probe, read_frames, lambda p: sample_frames(p, SamplingRule(8))):
        with pytest.raises(VideoError, match="none of its 72 frames could be decoded"):
            read(path)


def test_huge_frame_count_in_the_header(reference: Path, tmp_path: Path) -> None:
    """A header may promise two thousand million pictures: no memory is taken on its word."""
    data = bytearray(reference.read_bytes())
    at = data.index(b"stsz") + 4 + 8
    assert struct.unpack(">I", data[at : at + 4]) == (72,)
    data[at : at + 4] = struct.pack(">I", 2**31 - 1)
    path = tmp_path / "promises.mp4"
    path.write_bytes(data)
    try:
        clip = sample_frames(path, SamplingRule(8))
        assert clip.info.frames <= 72
    except VideoError:
        pass


def test_time_limit(reference: Path, tmp_path: Path, make: Make) -> None:
    long = make(tmp_path / "long.mp4", 1100, size=(32, 32), options={"preset": "ultrafast"})
    for read in (
        lambda path, limit: probe(path, time_limit=limit),
        lambda path, limit: read_frames(path, time_limit=limit),
        lambda path, limit: sample_frames(path, SamplingRule(8), time_limit=limit),
    ):
        for path in (reference, long):
            with pytest.raises(VideoError, match="took longer than 1e-09 s") as caught:
                read(path, 1e-9)
            assert caught.value.hint
            read(path, None)


def test_errors_travel_between_processes(tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        probe(tmp_path / "line\nbreak.mp4")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path, copy.reason) == (str(caught.value), caught.value.path, caught.value.reason)
    assert "line\\nbreak.mp4" in str(copy)
    assert "\n" not in str(copy)


NAMES = [
    *(b"a:b.mp4", b"http:x.mp4", b"file:x.mp4", b"concat:a|b.mp4", b"pipe:0", b"-leading-dash.mp4", b"-"),
    *(b"%03d.mp4", b"%03d.jpg", b"%s%n.png", b"*.mp4", b"{a,b}[0].mp4", b"a#b?c=d&e.mp4", b"line\nbreak.mp4"),
    *(b" spaces .mp4", b"back\\slash.mp4", b"quotes'\".mp4", b"list.m3u8", b"latin1-\xe9\xff.mp4"),
    *("видео – прыжки 走る.mp4".encode(), b"x" * 251 + b".mp4"),
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_the_system_allows(
    name: bytes, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    monkeypatch.chdir(tmp_path)
    with open(name, "wb") as file:
        file.write(reference.read_bytes())
    for path in (os.fsdecode(name), Path(os.fsdecode(name)), str(tmp_path / os.fsdecode(name))):
        assert probe(path).frames == 72
        assert shown(read_frames(path, [5])[0]) == [5]
    if name != b"-":  # which is standard input for a stream
        assert next(iter_frames(os.fsdecode(name), start=2.0))[0] == pytest.approx(2.0)


def test_titles_in_old_code_pages(tmp_path: Path, make: Make, reference: Path) -> None:
    import av

    path = tmp_path / "title.mkv"
    with av.open(str(reference)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata["title"] = "TITLE-HERE"
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"TITLE-HERE", b"T\xefTLE\xffHER\xe9"))
    assert probe(path).frames == 72
