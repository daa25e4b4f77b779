"""Times that are right whatever the time stamps do: jumps, gaps, wraps, repeats, missing ones, durations that lie."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from ga2clip.video import Gap, Playback, SamplingRule, iter_frames, probe, read_frames, sample_frames
from ga2clip.video.clock import Clock

Make = Callable[..., Path]
Shown = Callable[[np.ndarray], list[int]]
STEP = 40  # milliseconds at 25 frames per second


def clock(
    *, discontinuous: bool = False, live: bool = False, rate: int | Fraction = 25, first: int | None = None
) -> Clock:
    video: Any = SimpleNamespace(
        stream=SimpleNamespace(guessed_rate=Fraction(rate), average_rate=None),
        time_base=Fraction(1, 1000),
        format="any",
        discontinuous=discontinuous or live,
        live=live,
        untimed=False,
    )
    return Clock(video, first)


def times(stamps: Sequence[int | None], **how: Any) -> list[float]:
    """Milliseconds."""
    teller = clock(**how)
    return [round(1000 * teller.at(stamp), 3) for stamp in stamps]


REGULAR = [0, 40, 80, 120]


@pytest.mark.parametrize("discontinuous", [True, False])
@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        pytest.param([0, 40, 80, 120], REGULAR, id="regular"),
        pytest.param([-80, -40, 0, 40], REGULAR, id="negative first stamps"),
        pytest.param([5000, 5040, 5080, 5120], REGULAR, id="late start"),
        pytest.param([None, None, 80, 120], REGULAR, id="missing at the start"),
        pytest.param([0, None, None, 120], REGULAR, id="missing in the middle"),
        pytest.param([None] * 4, REGULAR, id="missing everywhere"),
        pytest.param([0, 40, 40, 80, 120], [0, 40, 60, 80, 120], id="one repeated"),
        pytest.param([0, 0, 40, 40, 80, 80], [0, 20, 40, 60, 80, 100], id="every one repeated"),
        pytest.param([0, 120, 40, 80, 160], [0, 120, 140, 150, 160], id="order of decoding"),
        pytest.param([0, 40, 0, 40, 80], [0, 40, 60, 70, 80], id="a frame again"),
        pytest.param([900, 940, 0, 40], REGULAR, id="back"),
        pytest.param([10**9, 10**9 + 40, 0, 40], REGULAR, id="far back"),
        pytest.param([0, 40, 1040, 1080], [0, 40, 1040, 1080], id="a still of 1 s"),
    ],
)
def test_time_stamps(stamps: list[int | None], expected: list[float], discontinuous: bool) -> None:
    assert times(stamps, discontinuous=discontinuous) == expected


def test_how_long_a_step_forward_is_believed() -> None:
    """Discontinuous: 1 s or ten frames; MPEG itself allows 0.7 s from one time stamp to the next. Elsewhere: 10 s."""
    still, jump = [0, 40, 5040, 5080], [0, 40, 80, 120]
    assert times(still) == times(still, live=True) == still
    assert times(still, discontinuous=True) == times([0, 40, 1041, 1081], discontinuous=True) == jump
    assert times([0, 500, 5500, 6000], discontinuous=True, rate=2) == [0, 500, 5500, 6000]
    assert times([0, 500, 5501, 6001], discontinuous=True, rate=2) == [0, 500, 1000, 1500]
    assert times([0, 15_000, 30_000], discontinuous=True, rate=Fraction(1, 15)) == [0, 15_000, 30_000]


def test_slow_streams_that_go_back_by_a_few_frames_are_joined() -> None:
    assert times([0, 500, 1000, 0, 500], discontinuous=True, rate=2) == [0, 500, 1000, 1500, 2000]


def test_a_clock_that_stands_still_does_not_stop_time() -> None:
    assert times([0] * 5 + [0] * 96)[-1] == pytest.approx(100 * STEP, abs=4 * STEP)


def test_a_long_step_forward_is_a_frame_step_where_time_is_discontinuous() -> None:
    teller = clock(discontinuous=True)
    assert [round(teller.at(stamp), 3) for stamp in (0, 40, 3_600_000, 3_600_040)] == [0, 0.04, 0.08, 0.12]
    assert teller.gaps == 0
    assert teller.warnings() == ("the time stamps jump by +3599.96 s at 0.08 s: taken as one frame step",)
    assert times([0, 40, 10_000_000, 80, 120], discontinuous=True) == [0, 40, 80, 120, 160]


def test_a_long_step_forward_is_a_gap_elsewhere() -> None:
    teller = clock()
    for stamp, gap in ((0, None), (40, None), (86_400_040, Gap(0.08, 86400.04)), (86_400_080, None)):
        teller.at(stamp)
        assert teller.gap == gap
    assert teller.gaps == pytest.approx(86_399.96)
    assert teller.warnings() == ("nothing is shown from 0.08 s to 86400.04 s",)
    teller.at(0)
    teller.at(90_000_000)
    assert len(teller.warnings()) == 2  # one sentence for each kind, however many there are


def test_a_jump_is_one_step_of_the_frames_before_it_whatever_the_header_says() -> None:
    stamps = [0, 40, 80, 120, 10_000_000]
    assert times(stamps, discontinuous=True, rate=1000)[-1] == 160
    assert times(stamps, discontinuous=True, rate=Fraction(1, 2))[-1] == 160


def test_slow_videos_have_no_gaps_at_their_own_pace() -> None:
    slides = clock(rate=Fraction(1, 15))
    assert [slides.at(15_000 * n) for n in range(4)] == [0, 15, 30, 45]
    assert slides.gaps == 0
    one_a_day = clock(rate=Fraction(1, 86400))
    one_a_day.at(0), one_a_day.at(86_400_000)
    assert one_a_day.gaps > 80_000


def test_a_last_frame_that_claims_an_hour_is_not_believed() -> None:
    teller = clock()
    teller.at(0)
    teller.at(40)
    teller.stays(3_600_000)
    assert teller.until == pytest.approx(0.08)
    teller.stays(5000)
    assert teller.until == pytest.approx(5.04)


# Files


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory, make: Make) -> dict[str, Path]:
    """MPEG-TS of 24 frames, 2 s, each at another time."""
    folder = tmp_path_factory.mktemp("parts")
    wrap = (1 << 33) // 7500  # frames until the 33 bits of a time stamp are used up, at 12 frames per second
    shifts = {"now": 0, "hour": 12 * 3600, "wrap": wrap - 30}  # the muxer adds 1.4 s by itself
    return {
        name: make(folder / f"{name}.ts", 24, fps=12, shift=shift, options={"g": "12", "bf": "2"})
        for name, shift in shifts.items()
    }


@pytest.mark.parametrize("order", [["now", "hour"], ["hour", "now"], ["now", "now", "now"], ["wrap"]])
def test_joined_transport_streams(
    order: list[str], parts: dict[str, Path], tmp_path: Path, shown: Shown
) -> None:
    path = joined(tmp_path / "joined.ts", *(parts[name] for name in order))
    count = 24 * len(order)
    frames, at = read_frames(path)
    assert shown(frames) == list(range(24)) * len(order)
    np.testing.assert_allclose(at, np.arange(count) / 12, atol=1e-4)
    info = probe(path)
    assert (info.frames, info.duration) == (count, pytest.approx(count / 12))
    assert info.fps == pytest.approx(12)
    assert (len(info.warnings) == 1) == (len(order) > 1)
    assert [round(12 * time) for time, _ in iter_frames(path, fps=6)] == list(range(0, count, 2))
    assert [round(12 * time) for time, _ in iter_frames(path, start=1.0)] == list(range(12, count))
    clip = sample_frames(path, SamplingRule(4))
    assert shown(clip.frames) == [int((n + 0.5) * count / 4) % 24 for n in range(4)]


def test_a_playlist_with_a_discontinuity(parts: dict[str, Path], tmp_path: Path, caplog: Any) -> None:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2"]
    for name in ("now", "hour", "now"):
        (tmp_path / f"{name}.ts").write_bytes(parts[name].read_bytes())
        lines += ["#EXTINF:2.0,", f"{name}.ts", "#EXT-X-DISCONTINUITY"]
    path = tmp_path / "list.m3u8"
    path.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    found = [time for time, _ in iter_frames(path)]
    np.testing.assert_allclose(found, np.arange(72) / 12, atol=1e-3)
    assert "jump by +" in caplog.text
    assert "at 2.00 s" in caplog.text
    assert sample_frames(path, SamplingRule(8)).info.duration == pytest.approx(6)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("gap", [3600, 86400])
def test_a_gap_in_a_file(suffix: str, gap: int, tmp_path: Path, make: Make, shown: Shown) -> None:
    pts = [STEP * n + (1000 * gap if n >= 10 else 0) for n in range(20)]
    path = make(tmp_path / f"gap.{suffix}", 20, fps=25, pts=pts, options={"bf": "0"})
    with Playback(path, fps=25) as playback:
        items = list(playback.frames())
    (found,) = (item for item in items if isinstance(item, Gap))
    assert isinstance(items[10], Gap)
    assert len(items) == 21
    assert (found.start, found.end) == (pytest.approx(0.4, abs=0.05), pytest.approx(gap + 0.4))
    clip = sample_frames(path, SamplingRule(4))
    assert shown(clip.frames) == [2, 7, 12, 17]
    assert clip.info.fps == pytest.approx(25, rel=0.1)
    assert "nothing is shown from" in clip.warnings[-1]


@pytest.mark.parametrize(("suffix", "first"), [("mkv", 0), ("ts", 0), ("mp4", 10)])
def test_negative_first_time_stamps(
    suffix: str, first: int, tmp_path: Path, make: Make, shown: Shown
) -> None:
    """In an MP4 they become an edit list, which says not to show these frames."""
    path = make(tmp_path / f"negative.{suffix}", 50, fps=25, shift=-10, options={"g": "10", "bf": "0"})
    frames, found = read_frames(path)
    assert shown(frames) == list(range(first, 50))
    np.testing.assert_allclose(found, np.arange(50 - first) / 25, atol=1e-3)
    assert probe(path).warnings == ()


@pytest.mark.parametrize("missing", [slice(15, 25), slice(0, 5)])
def test_missing_time_stamps_in_a_file(missing: slice, tmp_path: Path, make: Make, shown: Shown) -> None:
    path = make(tmp_path / "whole.ts", 50, fps=25, options={"g": "10", "bf": "2"})
    data = bytearray(path.read_bytes())
    frames = [at for at in range(0, len(data), 188) if data[at + 1] & 0x40 and video_header(data, at)]
    for at in frames[missing]:
        header = video_header(data, at)
        data[header + 7] &= 0x3F  # no time stamps (ISO/IEC 13818-1, section 2.4.3.6), stuffing in their place
        data[header + 9 : header + 9 + data[header + 8]] = b"\xff" * data[header + 8]
    path.write_bytes(data)
    decoded, found = read_frames(path)
    assert shown(decoded) == list(range(50))
    np.testing.assert_allclose(found, np.arange(50) / 25, atol=1e-3)


def video_header(data: bytearray, packet: int) -> int:
    """Where the header of a frame begins in a packet of a transport stream, 0 if none does."""
    at = packet + 4 + (data[packet + 4] + 1 if data[packet + 3] & 0x20 else 0)
    return at if data[at : at + 4] == b"\0\0\1\xe0" else 0


def test_repeated_time_stamps_in_a_file(tmp_path: Path, make: Make, shown: Shown) -> None:
    pts = [STEP * (n - (n in (10, 20, 21))) for n in range(50)]
    path = make(tmp_path / "regular.mkv", 50, fps=25, options={"bf": "0"})
    again = tmp_path / "repeated.mkv"
    with av.open(path) as source, av.open(again, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux() if packet.size):
            packet.pts, packet.dts, packet.stream = pts[number], None, stream
            target.mux(packet)
    frames, found = read_frames(again)
    assert shown(frames) == list(range(50))
    assert np.all(np.diff(found) > 0)
    np.testing.assert_allclose(found, np.arange(50) / 25, atol=STEP / 1000)
    assert found[-1] == pytest.approx(1.96)


def test_long_recordings_with_jumps_are_numbered_in_the_order_of_the_file(
    tmp_path: Path, make: Make, shown: Shown
) -> None:
    how = {"fps": 12, "options": {"g": "12"}, "size": (32, 24)}
    late = make(tmp_path / "late.ts", 600, shift=12 * 3600, **how)
    early = make(tmp_path / "early.ts", 600, **how)
    for name, order in (("forward", (early, late)), ("back", (late, early)), ("near", (early, early))):
        path = joined(tmp_path / f"{name}.ts", *order)
        clip = sample_frames(path, SamplingRule(4))
        assert (name, shown(clip.frames)) == (name, [150, 450, 150, 450])
        np.testing.assert_allclose(clip.times, np.array([150, 450, 750, 1050]) / 12, atol=0.01)
        assert clip.info.duration == pytest.approx(100, abs=0.1)
        assert any("jump" in warning for warning in clip.warnings)


def test_a_gap_in_a_long_file_that_is_sought(tmp_path: Path, make: Make, shown: Shown) -> None:
    pts = [STEP * n + (3_600_000 if n >= 600 else 0) for n in range(1200)]
    path = make(tmp_path / "long.mkv", 1200, fps=25, pts=pts, options={"g": "25", "bf": "0"}, size=(32, 24))
    clip = sample_frames(path, SamplingRule(4))
    assert shown(clip.frames) == [150, 450, 750, 1050]
    np.testing.assert_allclose(clip.times, [6, 18, 3630, 3642], atol=1e-3)
    assert clip.info == probe(path)
    assert (clip.info.duration, clip.info.fps) == (pytest.approx(3648), pytest.approx(25, rel=1e-3))
    assert clip.warnings == ("nothing is shown from 24.00 s to 3624.00 s",)


def test_durations_that_lie(tmp_path: Path, make: Make) -> None:
    """The header of a Matroska file claims ten hours, and its last frame an hour."""
    path = make(tmp_path / "honest.mkv", 25, fps=25)
    liar = tmp_path / "liar.mkv"
    with av.open(path) as source, av.open(liar, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux() if packet.size]
        packets[-1].duration = 3_600_000
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
    with av.open(liar) as opened:
        assert opened.duration > 3000 * av.time_base
    assert probe(liar).duration == pytest.approx(1, abs=0.05)
    assert probe(liar).fps == pytest.approx(25, abs=1)
