"""Long files: only the neighbourhood of the frames is decoded, and the frames are the same."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

import ga2clip.video.read as reading
from ga2clip.video import SamplingRule, iter_frames, probe, read_frames, sample_frames
from ga2clip.video.seek import PacketTable

Make = Callable[..., Path]
Shown = Callable[[np.ndarray], list[int]]

COUNT = 1200
OPEN_GOPS = {"x264-params": "open-gop=1:keyint=60:min-keyint=60:bframes=3", "preset": "superfast"}


@pytest.fixture(scope="module", params=["long.mp4", "long.mkv", "long.ts"])
def long_video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make: Make) -> Path:
    return make(tmp_path_factory.mktemp("long") / request.param, COUNT, size=(32, 24), options=OPEN_GOPS)


@pytest.fixture
def decoded_whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded from their beginning."""
    names: list[str] = []
    decode = reading._decode

    def spy(video: reading.OpenVideo, *args: object, **kwargs: object) -> reading.VideoInfo:
        names.append(video.path)
        return decode(video, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "_decode", spy)
    return names


def test_seeking_gives_the_same_frames(long_video: Path, shown: Shown, decoded_whole: list[str]) -> None:
    whole, times = read_frames(long_video)
    assert shown(whole) == list(range(COUNT))
    decoded_whole.clear()
    rules = [SamplingRule(4), *(SamplingRule(4, train=True, seed=seed) for seed in range(4))]
    for rule in rules:
        clip = sample_frames(long_video, rule)
        numbers = shown(clip.frames)
        np.testing.assert_array_equal(clip.frames, whole[numbers])
        np.testing.assert_array_equal(clip.times, times[numbers])
        assert clip.info == probe(long_video) or long_video.suffix == ".ts"
    order = [1150, 1003, 1150, 7]
    frames, _ = read_frames(long_video, order)
    np.testing.assert_array_equal(frames, whole[order])
    if long_video.suffix != ".ts":  # where seeking is inexact, and may be declined
        assert len(decoded_whole) == len(rules)  # by probe alone


def test_damage_on_the_way_is_noticed(
    tmp_path: Path, make: Make, shown: Shown, decoded_whole: list[str]
) -> None:
    path = make(
        tmp_path / "hole.mp4", COUNT, size=(32, 24), options={"g": "60", "bf": "0", "preset": "superfast"}
    )
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][145]
    data = bytearray(path.read_bytes())
    data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    clip = sample_frames(path, SamplingRule(4))  # frame 150 needs the broken one
    assert clip.info.frames == COUNT - 1
    assert clip.warnings
    assert decoded_whole
    whole, _ = read_frames(path)
    np.testing.assert_array_equal(clip.frames, whole[[149, 449, 749, 1049]])


def test_many_frames_of_a_long_file_are_read_in_one_go(
    tmp_path: Path, make: Make, shown: Shown, decoded_whole: list[str]
) -> None:
    path = make(tmp_path / "one_key.mp4", 1000, size=(32, 24), options={"g": "5000", "sc_threshold": "0"})
    assert shown(sample_frames(path, SamplingRule(2)).frames) == [250, 750]
    assert decoded_whole == [str(path)]


def test_memory_does_not_grow_with_the_length(long_video: Path) -> None:
    sample_frames(long_video, SamplingRule(4))
    tracemalloc.start()
    try:
        sample_frames(long_video, SamplingRule(64), size=12)  # so many that the whole file is decoded
        for _ in iter_frames(long_video, fps=1):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < COUNT * 32 * 24 * 3 / 4


def test_start_seeks_to_the_same_frames(long_video: Path, shown: Shown) -> None:
    whole, times = read_frames(long_video)
    for start in (0.0, 1.3, 17.52, 49.9):
        found = [
            (time, frame)
            for _, (time, frame) in zip(range(5), iter_frames(long_video, start=start), strict=False)
        ]
        first = int(np.searchsorted(times, start - 1e-3))
        np.testing.assert_array_equal(
            np.stack([frame for _, frame in found]), whole[first : first + 5][: len(found)]
        )
        np.testing.assert_allclose([time for time, _ in found], times[first : first + 5], atol=1e-9)


def test_runs_share_a_key_frame() -> None:
    table = PacketTable(np.arange(20), np.array([0, 5, 10, 15]), 1, 20, True)
    assert table.runs([2, 3, 6, 13, 16]) == [[2, 3], [6], [13], [16]]
    assert table.runs([4, 9, 10, 11]) == [[4], [9], [10, 11]]
    assert table.runs([7, 16]) == [[7], [16]]
    assert table.worth_seeking([6, 16])
    assert not table.worth_seeking([4, 9, 14, 19])
    assert not PacketTable(np.arange(20), np.array([0, 5, 10, 15]), 1, 20, False).worth_seeking([6])
