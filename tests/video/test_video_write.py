"""Writing videos and pictures: whole or not at all."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ga2clip.errors import UserError
from ga2clip.video import probe, read_frames, write_video
from ga2clip.video.draw import write_picture

Shown = Callable[[np.ndarray], list[int]]


def test_written_video_reads_back(reference: Path, tmp_path: Path, shown: Shown) -> None:
    frames, _ = read_frames(reference)
    for fps in (24, 29.97, 12.5):
        path = tmp_path / f"out_{fps}.mp4"
        write_video(path, iter(frames), fps)
        info = probe(path)
        assert (info.frames, info.width, info.height, info.codec) == (72, 64, 48, "h264")
        assert info.fps == pytest.approx(fps, rel=1e-3)
        again, _ = read_frames(path)
        assert shown(again) == list(range(72))
        assert np.abs(again.astype(int) - frames).mean() < 3


def test_same_frames_same_bytes(reference: Path, tmp_path: Path) -> None:
    frames, _ = read_frames(reference, range(20))
    write_video(tmp_path / "a.mp4", frames, 24)
    write_video(tmp_path / "b.mp4", frames, 24)
    write_video(tmp_path / "c.mp4", frames, 24, crf=40)
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b
    assert len(c) < len(a)


def test_odd_sides_lose_a_row_or_column(tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mp4", np.zeros((3, 49, 65, 3), np.uint8), 10)
    assert read_frames(tmp_path / "odd.mp4")[0].shape == (3, 48, 64, 3)


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a:b#%03d.mp4"
    path.write_text("before")

    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((48, 64, 3), np.uint8)
        raise RuntimeError("the camera fell off")

    with pytest.raises(RuntimeError):
        write_video(path, frames(), 10)
    with pytest.raises(UserError, match="without frames"):
        write_video(path, [], 10)
    with pytest.raises(UserError, match="frame 1 is 32×32"):
        write_video(path, [np.zeros((48, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)], 10)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    write_video(path, np.zeros((2, 48, 64, 3), np.uint8), 10)
    assert probe(path).frames == 2


def test_pictures_keep_their_colours(tmp_path: Path) -> None:
    red = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    red[..., 0] = 200
    write_picture(tmp_path / "red.png", red)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "red.png")), red)
    for name in ("red", "red.xyz"):
        with pytest.raises(UserError, match="no image format"):
            write_picture(tmp_path / name, red)
    assert [path.name for path in tmp_path.iterdir()] == ["red.png"]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
@pytest.mark.parametrize("kind", ["descriptor", "named pipe"])
def test_a_stream_without_a_suffix_gets_a_png(tmp_path: Path, kind: str) -> None:
    """What the shell makes of `--plot >(cat)`, and `mkfifo plot`."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    if kind == "descriptor":
        reader, writer = os.pipe()
        write_picture(f"/dev/fd/{writer}", picture)
        os.close(writer)
    else:
        os.mkfifo(tmp_path / "plot")
        reader = os.open(tmp_path / "plot", os.O_RDONLY | os.O_NONBLOCK)
        write_picture(tmp_path / "plot", picture)
    with os.fdopen(reader, "rb") as pipe, Image.open(io.BytesIO(pipe.read())) as found:
        assert found.format == "PNG"
        np.testing.assert_array_equal(np.asarray(found), picture)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_whatever_is_written(tmp_path: Path) -> None:
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    for name, write in (
        ("out.mp4", lambda path: write_video(path, frames, 5)),
        ("out.png", lambda path: write_picture(path, frames[0])),
    ):
        (tmp_path / name).symlink_to("/dev/full")
        with pytest.raises(UserError, match=f"cannot write .*{name}: No space left on device"):
            write(tmp_path / name)
        assert (tmp_path / name).is_symlink()
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2
