"""Frames one at a time: from files, standard input and addresses, at a chosen rate."""

import functools
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ga2clip.video.fetch as fetch
from ga2clip.errors import UserError
from ga2clip.video import VideoError, iter_frames, read_frames

Make = Callable[..., Path]
Shown = Callable[[np.ndarray], list[int]]


def collect(frames: Iterator[tuple[float, np.ndarray]]) -> tuple[list[float], np.ndarray]:
    pairs = list(frames)
    return [time for time, _ in pairs], np.stack([frame for _, frame in pairs])


def test_every_frame(reference: Path) -> None:
    times, frames = collect(iter_frames(reference))
    expected, expected_times = read_frames(reference)
    np.testing.assert_array_equal(frames, expected)
    np.testing.assert_array_equal(times, expected_times)


@pytest.mark.parametrize(("fps", "count"), [(8, 24), (1, 3), (24, 72), (100, 72), (5, 15), (0.5, 2)])
def test_so_many_frames_per_second(fps: float, count: int, reference: Path) -> None:
    times, _ = collect(iter_frames(reference, fps=fps))
    assert len(times) == count
    moments = np.arange(count) / min(fps, 24)
    assert np.all(np.array(times) >= moments - 1e-3)
    assert np.all(np.array(times) < moments + 1 / 24)


def test_slow_and_irregular_video_gives_each_frame_once(tmp_path: Path, make: Make, shown: Shown) -> None:
    path = make(tmp_path / "irregular.mkv", 6, pts=[0, 100, 200, 1500, 1600, 3000])
    times, frames = collect(iter_frames(path, fps=4))
    assert shown(frames) == [0, 3, 4, 5] or shown(frames) == [0, 3, 5]
    assert np.diff(times).min() > 0.09


def test_start_counts_from_the_first_shown_frame(tmp_path: Path, make: Make, shown: Shown) -> None:
    path = make(tmp_path / "late.mp4", 48, shift=36, sound=4, options={"g": "12"})
    times, frames = collect(iter_frames(path, fps=6, start=1.0))
    assert shown(frames) == [24, 28, 32, 36, 40, 44]
    np.testing.assert_allclose(times, np.arange(6) / 6 + 1, atol=1e-3)
    assert list(iter_frames(path, start=99.0)) == []


@pytest.mark.parametrize(
    "bad", [{"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"start": -1}, {"start": float("inf")}]
)
def test_numbers_out_of_range(bad: dict[str, float], reference: Path) -> None:
    with pytest.raises(UserError, match="must be"):
        next(iter_frames(reference, **bad))


def test_standard_input(reference: Path) -> None:
    code = "from ga2clip.video import iter_frames; print(sum(1 for _ in iter_frames('-')))"
    done = subprocess.run([sys.executable, "-c", code], input=reference.read_bytes(), capture_output=True)
    assert (done.stdout.strip(), done.stderr) == (b"72", b"")


@pytest.fixture
def web(reference: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(reference.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://user:secret@127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_address(web: str, shown: Shown) -> None:
    _, frames = collect(iter_frames(f"{web}/reference.mp4", fps=8))
    assert shown(frames) == list(range(0, 72, 3))
    with pytest.raises(VideoError, match="not found") as caught:
        next(iter_frames(f"{web}/missing.mp4"))
    assert "secret" not in str(caught.value)
    assert "secret" not in caught.value.path


def test_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/camera.ts"
        with pytest.raises(VideoError, match=r"no data for 0.3 s") as caught:
            next(iter_frames(address))
    assert caught.value.hint


def test_playlist_in_a_file_does_not_reach_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        path = tmp_path / "list.m3u8"
        address = f"http://127.0.0.1:{server.getsockname()[1]}/part.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(VideoError):
            next(iter_frames(path))
        with pytest.raises(TimeoutError):
            server.accept()
