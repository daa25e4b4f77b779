"""Long gaps in a video: one record each, nothing claimed in them, no more time and memory than without."""

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from ga2clip.runtime.draw_timeline import plot, render
from ga2clip.runtime.sliding import Window, windows
from ga2clip.runtime.stream import follow
from ga2clip.runtime.timeline import _Segments, smoothed, timeline
from ga2clip.video import Gap, probe

DAY = 86400.0


class Brightness:
    """A predictor whose feature is a frame's brightness, and whose two classes are dark and bright."""

    model = SimpleNamespace(independent_frames=True)

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        return frames[:, ::8, ::8]

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        bright = frames.mean(axis=(1, 2, 3), keepdims=True).reshape(-1, 1) / 255
        return np.concatenate([1 - bright, bright], axis=1).astype(np.float32)

    def pool(self, features: np.ndarray) -> np.ndarray:
        return features.mean(axis=1)

    def scorer(self, *_: object) -> Any:
        return SimpleNamespace(labels=("dark", "bright"), probabilities=lambda features: features)


PREDICTOR: Any = Brightness()


def write(path: Path, times: list[int], values: list[int]) -> Path:
    """Plain frames of these brightnesses at these milliseconds."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment, value in zip(times, values, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module", params=["mkv", "mp4"])
def gapped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s dark, a day of nothing, 3 s bright, 10 frames a second."""
    times = [100 * n for n in range(30)]
    late = [int(1000 * DAY) + t for t in times]
    path = tmp_path_factory.mktemp("gaps") / f"gap.{request.param}"
    return write(path, times + late, [20] * 30 + [230] * 30)


def test_windows_end_at_a_gap_and_begin_anew_after_it() -> None:
    early = [(n / 4, np.array([1.0, 0])) for n in range(12)]
    late = [(DAY + n / 4, np.array([0, 1.0])) for n in range(6)]
    gap = Gap(3.0, DAY)
    found = list(windows([*early, gap, *late], 2.0, 0.5, 0.25, PREDICTOR.pool))
    at = found.index(gap)
    assert [(w.start, w.end) for w in found[:at] if isinstance(w, Window)] == [(0, 2), (0.5, 2.5), (1, 3)]
    assert [(w.start - DAY, w.end - DAY) for w in found[at + 1 :] if isinstance(w, Window)] == [(0, 1.5)]
    for part in found:
        if isinstance(part, Window):
            np.testing.assert_array_equal(part.feature, [1, 0] if part.end <= 3 else [0, 1])


def test_nothing_is_smoothed_or_joined_across_a_gap() -> None:
    gap = Gap(2.0, 100.0)
    parts = [
        (Window(float(t), t + 1.0, np.zeros(1)), np.array([p, 1 - p]))
        for t, p in ((0, 1), (1, 1), (100, 0.6), (101, 0.6))
    ]
    scored = [*parts[:2], gap, *parts[2:]]
    found = list(smoothed(scored, 3))
    assert found[2] == gap
    np.testing.assert_allclose([p[1][0] for p in found if not isinstance(p, Gap)], [1, 1, 0.6, 0.6])
    segments = _Segments(("a", "b"), 0.5)
    for item in scored:
        segments.add_gap(item) if isinstance(item, Gap) else segments.add(*item)
    assert [(s.start, s.end, s.label) for s in segments.finish(102.0)] == [(0, 2, "a"), (100, 102, "a")]


def test_a_timeline_claims_nothing_in_a_gap(gapped: Path, tmp_path: Path) -> None:
    found = timeline(PREDICTOR, gapped, window=1, stride=0.25)
    (gap,) = found.gaps
    assert (gap.start, gap.end) == (pytest.approx(3, abs=0.11), pytest.approx(DAY))
    assert [(s.label, s.start, s.end) for s in found.segments] == [
        ("dark", 0, gap.start),
        ("bright", gap.end, found.duration),
    ]
    assert found.duration == pytest.approx(DAY + 3, abs=0.2)
    assert all(w.end <= gap.start or w.start >= gap.end for w in found.windows)
    assert len(found.windows) < 25
    assert found.to_json()["gaps"] == [{"start": gap.start, "end": gap.end}]
    assert found.to_csv().splitlines()[2] == f"{found.file},{gap.start:.3f},{gap.end:.3f},,"
    assert "gap: no frames" in found.table().splitlines()[2]
    assert plot(found, tmp_path / "gap.png").stat().st_size > 0
    assert probe(render(gapped, found, tmp_path / "rendered.mp4")).frames == 60


def test_following_says_gap_once(gapped: Path) -> None:
    found = list(follow(PREDICTOR, str(gapped), window=1, stride=0.25))
    (gap,) = (answer for answer in found if answer.gap)
    assert gap.predictions == ()
    assert json.loads(json.dumps(gap.to_json())) == {
        "time": gap.time,
        "predictions": [],
        "dropped": 0,
        "reused": 11,  # of the 12 frames before it, which are equal
        "gap": {"start": gap.gap.start, "end": gap.gap.end},
    }
    before = found[: found.index(gap)]
    assert {answer.predictions[0][0] for answer in before} == {"dark"}
    assert {answer.predictions[0][0] for answer in found[len(before) + 1 :]} == {"bright"}
    assert all("gap" not in answer.to_json() for answer in before)


def test_a_still_of_some_seconds_is_no_gap(tmp_path: Path) -> None:
    path = write(tmp_path / "slides.mkv", [0, 100, 200, 8000, 8100], [20, 20, 20, 230, 230])
    found = timeline(PREDICTOR, path, window=1, stride=0.5)
    assert found.gaps == ()
    assert [s.label for s in found.segments] == ["dark", "bright"]
    assert found.segments[0].end == pytest.approx(8, abs=0.6)
