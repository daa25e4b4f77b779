"""Which files of a folder are its videos: by suffix, by content, through links, without what is hidden."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from ga2clip.runtime.results import expand
from ga2clip.video import bare_name, find_videos, write_video

HEADS = {
    "mp4": b"\0\0\0\x18ftypisom",
    "mov": b"\0\0\0\x08wide\0\0\0\0mdat",
    "matroska": b"\x1aE\xdf\xa3\x9f",
    "vob": b"\0\0\x01\xba\x44",
    "m2v": b"\0\0\x01\xb3\x14",
    "avi": b"RIFF\0\0\0\0AVI LIST",
    "ts": (b"G" + bytes(187)) * 5,
    "m2ts": (bytes(4) + b"G" + bytes(187)) * 5,
    "wmv": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9",
    "theora": b"OggS\0\x02" + bytes(22) + b"\x80theora",
    "animated webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0",
    "animated avif": b"\0\0\0\x20ftypavis",
}
OTHER_HEADS = {
    "still webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0",
    "avif": b"\0\0\0\x20ftypavif",
    "wave": b"RIFF\0\0\0\0WAVEfmt ",
    "vorbis": b"OggS\0\x02" + bytes(22) + b"\x01vorbis",
    "aac in mp4": b"\0\0\0\x20ftypM4A ",
    "text": b"GGG, a list",
    "empty": b"",
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_video_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    (tmp_path / "clip.recorder7").write_bytes(HEADS[kind])
    (tmp_path / "clip").write_bytes(HEADS[kind])
    assert find_videos(tmp_path) == [tmp_path / "clip", tmp_path / "clip.recorder7"]


@pytest.mark.parametrize("kind", OTHER_HEADS)
def test_what_is_no_video_is_counted_by_suffix(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.recorder7", "b.recorder7", "c.JPG", "run.mp4.part", "noted"):
        (tmp_path / name).write_bytes(OTHER_HEADS[kind])
    with caplog.at_level(logging.INFO):
        assert find_videos(tmp_path) == []
    assert (
        f"{tmp_path}: left out, not videos: 1 .jpg, 1 .part, 2 .recorder7, 1 without a suffix" in caplog.text
    )


def test_a_real_video_of_any_name_and_every_usual_suffix(tmp_path: Path) -> None:
    write_video(tmp_path / "made.mp4", np.zeros((2, 32, 32, 3), np.uint8), 10)
    (tmp_path / "made.mp4").rename(tmp_path / "CLIP0001.XYZ")
    for suffix in ("vob", "mxf", "divx", "m2v", "dv", "f4v", "ogv", "wmv", "3g2", "mjpeg", "y4m"):
        (tmp_path / f"clip.{suffix}").touch()
    assert len(find_videos(tmp_path)) == 12


def test_predict_sees_what_prepare_sees(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outside = tmp_path / "outside"
    for place in (
        "outside/deep/3.mp4",
        "in/1.mp4",
        "in/._1.mp4",
        "in/.ga2clip/anchors/2.mp4",
        "in/sub/4.mp4",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    inside = tmp_path / "in"
    (inside / "linked").symlink_to(outside)
    (inside / "sub" / "loop").symlink_to(inside)
    (inside / "5.mp4").symlink_to(outside / "deep" / "3.mp4")
    os.mkfifo(inside / "pipe")
    found = [inside / "1.mp4", inside / "5.mp4", inside / "linked/deep/3.mp4", inside / "sub/4.mp4"]
    assert find_videos(inside) == found
    assert expand([inside, inside / "1.mp4"]) == found
    assert "loop: left out, because its folder was already searched" in caplog.text


def test_a_folder_that_may_not_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_videos(tmp_path / "gone") == []
    assert "cannot look into" in caplog.text


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("clip.mp4.webm", "clip"),
        ("run/Clip.MP4", "run/Clip"),
        ("v_x.1", "v_x.1"),
        (".mp4", ".mp4"),
        ("a.mp4/b", "a.mp4/b"),
    ],
)
def test_names_without_the_suffixes_of_videos(name: str, bare: str) -> None:
    assert bare_name(name) == bare


def test_what_prepare_leaves_is_not_listed_as_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("manifest.json", "prepare_report.csv"):
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == []
    assert caplog.messages == []
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "manifest.json").touch()
    find_videos(tmp_path)
    assert caplog.messages == [f"{tmp_path}: left out, not videos: 1 .json"]
