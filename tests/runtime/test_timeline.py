"""Long videos: every frame encoded once, windows that are right at both ends, constant memory, streams that drop."""

import csv
import io
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.runtime import Predictor
from ga2clip.runtime import stream as streams
from ga2clip.runtime.draw_timeline import plot, render
from ga2clip.runtime.sliding import Window, windows
from ga2clip.runtime.stream import follow
from ga2clip.runtime.timeline import Answer, Segment, Timeline, _Segments, smoothed, timeline
from ga2clip.video import VideoError, probe, read_frames, write_video


@pytest.fixture(scope="module")
def predictor(bundle: Path):
    with Predictor(bundle, provider="cpu", threads=1, cache=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s at 10 fps: dark noise for 10 s, then bright."""
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 60, (32, 32, 3)) + (0 if i < 100 else 180) for i in range(200))
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(path, (frame.astype(np.uint8) for frame in frames), 10)
    return path


def mean(frames: np.ndarray) -> np.ndarray:
    return frames.astype(float).mean(axis=1)


def by_hand(features: list[tuple[float, np.ndarray]], start: float, end: float) -> np.ndarray:
    return np.mean([f.astype(float) for t, f in features if start <= t + 1e-6 < end], axis=0)


@pytest.mark.parametrize(
    ("window", "stride", "fps", "seconds"), [(2, 0.5, 4, 10), (1, 1, 3, 7.3), (0.7, 0.1, 10, 2), (5, 1, 2, 3)]
)
def test_windows_pool_their_frames_and_cover_the_video(window, stride, fps, seconds) -> None:
    rng = np.random.default_rng(0)
    features = [(i / fps, rng.normal(size=5).astype(np.float32)) for i in range(int(seconds * fps))]
    found = list(windows(iter(features), window, stride, 1 / fps, mean))
    for part in found:
        np.testing.assert_allclose(part.feature, by_hand(features, part.start, part.end), atol=1e-6)
    np.testing.assert_allclose([part.start for part in found], np.arange(len(found)) * stride)
    assert found[-1].end == pytest.approx(features[-1][0] + 1 / fps)
    assert all(any(p.start <= t + 1e-6 < p.end for p in found) for t, _ in features)


def test_a_gap_keeps_the_picture_before_it() -> None:
    features = [(0.0, np.ones(2)), (9.0, 3 * np.ones(2))]
    found = list(windows(iter(features), 2, 1, 0.1, mean))
    middle = next(part for part in found if part.start == 4)
    np.testing.assert_allclose(middle.feature, 1)
    assert list(windows(iter([]), 2, 1, 0.1, mean)) == []


def test_windows_hold_their_frames_alone_after_hours() -> None:
    rng = np.random.default_rng(0)
    last = None
    values = ((i * 0.1, rng.normal(size=3).astype(np.float32) * 1e3) for i in range(20_000))
    kept: list[tuple[float, np.ndarray]] = []

    def remember():
        for item in values:
            kept.append(item)
            del kept[:-40]
            yield item

    for part in windows(remember(), 2.0, 0.5, 0.1, mean):
        last = part
    np.testing.assert_allclose(last.feature, by_hand(kept, last.start, last.end), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("length", [1, 3, 5, 9])
@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_smoothing_is_a_centred_mean(length: int, count: int) -> None:
    values = np.random.default_rng(0).random((count, 2))
    parts = [Window(float(i), i + 1.0, np.zeros(1)) for i in range(count)]
    found = list(smoothed(zip(parts, values, strict=True), length))
    assert [part.start for part, _ in found] == [float(i) for i in range(count)]
    for index, (_, mean) in enumerate(found):
        low, high = max(0, index - length // 2), index + length // 2 + 1
        np.testing.assert_allclose(mean, values[low:high].mean(axis=0))


def segments(labels: str, min_length: float = 0.0, stride: float = 1.0) -> list[tuple[float, float, str]]:
    builder = _Segments("abc", min_length)
    for index, label in enumerate(labels):
        probabilities = np.where(np.array(list("abc")) == label, 0.8, 0.1)
        builder.add(Window(index * stride, index * stride + 2, np.zeros(1)), probabilities)
    return [(s.start, s.end, s.label) for s in builder.finish((len(labels) - 1) * stride + 2)]


def test_segments_meet_between_the_middles_of_their_windows() -> None:
    assert segments("aabbb") == [(0, 2.5, "a"), (2.5, 6, "b")]
    assert segments("a") == [(0, 2, "a")]


def test_short_segments_are_left_out_and_their_neighbours_joined() -> None:
    assert segments("aaaabaaaa", min_length=1.5) == [(0, 10, "a")]
    assert segments("aaaabcccc", min_length=1.5) == [(0, 4.5, "a"), (5.5, 10, "c")]
    assert segments("abc", min_length=9) == []


def test_a_timeline_of_a_file(predictor, long_clip) -> None:
    seen = []
    result = timeline(
        predictor, long_clip, window=2, stride=0.5, fps=4, classes=["one", "two"], progress=seen.append
    )
    assert result.encoded_frames == 80 == len(seen)
    assert result.duration == pytest.approx(20, abs=0.3)
    assert result.segments[0].start == 0
    assert result.segments[-1].end == result.duration
    dense = timeline(predictor, long_clip, window=2, stride=0.1, fps=4, classes=["one", "two"])
    assert dense.encoded_frames == 80  # overlap costs nothing
    first = predictor.predict_frames(read_frames(long_clip, [0, 3, 5, 8, 10, 13, 15, 18])[0], ["one", "two"])
    assert result.windows[0].probability == pytest.approx(first.predictions[0][1], abs=1e-4)


def test_timeline_output(predictor, long_clip) -> None:
    result = timeline(predictor, long_clip, classes=['a "b", c', "d"])
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["label"] for row in rows] == [segment.label for segment in result.segments]
    tree = result.to_json()
    assert tree["segments"][0].keys() == {"start", "end", "label", "score"}
    assert len(tree["windows"]) == len(result.windows)
    assert result.segments[0].label in result.table()


@pytest.mark.parametrize(
    "bad", [{"window": 0}, {"stride": -1}, {"fps": float("nan")}, {"stride": 3.0}, {"smooth": -1}]
)
def test_numbers_that_make_no_windows_are_refused(predictor, long_clip, bad) -> None:
    with pytest.raises(UserError):
        timeline(predictor, long_clip, **bad)


def test_a_file_that_is_no_video_is_an_error(predictor, tmp_path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no")
    with pytest.raises(VideoError):
        timeline(predictor, tmp_path / "x.mp4")
    with pytest.raises(VideoError):
        list(follow(predictor, str(tmp_path / "x.mp4")))


def test_memory_does_not_grow_with_the_length() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        items = ((i * 0.25, np.ones(512, np.float32)) for i in range(count))
        for _ in windows(items, 2, 0.5, 0.25, mean):
            pass
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < 1.1 * peak(2_000)


def test_a_stream_answers_like_a_timeline(predictor, long_clip) -> None:
    expected = timeline(predictor, long_clip, classes=["one", "two"])
    found = list(follow(predictor, str(long_clip), classes=["one", "two"]))
    assert [r.predictions[0][0] for r in found] == [w.label for w in expected.windows]
    assert [r.time for r in found] == [w.end for w in expected.windows]
    assert found[-1].dropped == 0
    assert found[0].to_json().keys() == {"time", "predictions", "dropped", "reused"}


class Played:
    """Stands for a source that is no live one."""

    live = False

    def __init__(self, source, fps):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def frames(self):
        return iter([(0.0, np.zeros(1))] * 10_000)


def test_a_live_source_loses_its_oldest_frames_and_says_how_many(monkeypatch) -> None:
    produced = threading.Event()

    class Camera(Played):
        live = True

        def frames(self):
            for index in range(50):
                yield index / 4, np.zeros((2, 2, 3), np.uint8)
            produced.set()

    monkeypatch.setattr(streams, "Playback", Camera)
    with streams._Reader("rtsp://camera", 4) as reader:
        assert produced.wait(5)  # the decoder was never kept waiting
        times = [time for time, _ in reader.frames()]
    assert times == [i / 4 for i in range(42, 50)]
    assert reader.dropped == 42


def test_a_reader_that_nobody_reads_any_more_ends(monkeypatch) -> None:
    monkeypatch.setattr(streams, "Playback", Played)
    with streams._Reader("-", 4) as reader:
        next(reader.frames())
    reader._thread.join(timeout=5)
    assert not reader._thread.is_alive()


def test_the_plot_shows_each_segment_in_its_place(tmp_path) -> None:
    parts = (Segment(0, 4, "juggling", 0.9), Segment(4, 10, "a very long label – ещё", 0.4))
    answers = (Answer(0, 2, "juggling", 0.9), Answer(8, 10, "a very long label – ещё", 0.4))
    made = Timeline("f", 10, 2, 0.5, 4, 40, ("juggling", "a very long label – ещё"), parts, answers)
    picture = read_picture(plot(made, tmp_path / "t.png"))
    coloured = (picture.max(axis=2) - picture.min(axis=2) > 40).any(axis=0)
    columns = np.flatnonzero(coloured)
    assert columns.max() - columns.min() > 700  # the two bars together fill the axis
    with pytest.raises(UserError):
        plot(made, tmp_path / "t.unknown")
    endless = "walking " * 60
    long = replace(made, labels=(endless, "b"), segments=(Segment(0, 10, endless, 0.9),))
    picture = read_picture(plot(long, tmp_path / "t.png"))
    assert (picture.max(axis=2) - picture.min(axis=2) > 40).any(axis=0).sum() > 700
    assert [path.name for path in tmp_path.iterdir()] == ["t.png"]


def test_the_rendered_video_has_all_frames_and_a_bar(predictor, clip_path, tmp_path) -> None:
    made = timeline(predictor, clip_path, window=0.4, stride=0.2, fps=10, classes=["one", "two"])
    out = render(clip_path, made, tmp_path / "out.mp4")
    assert probe(out).frames == probe(clip_path).frames
    before, after = read_frames(clip_path)[0], read_frames(out)[0]
    changed = np.abs(before.astype(int) - after).mean(axis=(0, 2, 3))
    assert changed[-8:].mean() > 5 * changed[:16].mean()


def read_picture(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_decoding_overlaps_encoding() -> None:
    from ga2clip.runtime.frames import run_ahead

    decoded = [threading.Event() for _ in range(4)]

    def decode():
        for index, event in enumerate(decoded):
            event.set()
            yield index

    for index in run_ahead(decode()):
        # The next one comes while this one is still being encoded.
        assert index == 3 or decoded[index + 1].wait(timeout=30)
