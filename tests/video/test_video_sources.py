"""Standard input, named pipes and addresses: recordings are read whole, streams as they come, what dies says so."""

import functools
import http.server
import io
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import ga2clip.video.fetch as fetch
from ga2clip.video import Playback, SamplingRule, VideoError, iter_frames, local_file, sample_frames

Make = Callable[..., Path]
Shown = Callable[[np.ndarray], list[int]]


@pytest.fixture(scope="module")
def index_last(tmp_path_factory: pytest.TempPathFactory, make: Make) -> Path:
    """An ordinary MP4 of 48 frames, its index after the frames."""
    path = make(tmp_path_factory.mktemp("sources") / "index_last.mp4", 48, options={"crf": "1"})
    assert path.read_bytes().index(b"mdat") < path.read_bytes().index(b"moov")
    return path


@pytest.fixture(scope="module")
def jpegs() -> list[bytes]:
    """Motion JPEG, frame by frame."""
    out = io.BytesIO()
    rng = np.random.default_rng(0)
    with av.open(out, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        frames = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(12)]
        packets = [p for f in frames for p in stream.encode(av.VideoFrame.from_ndarray(f, "rgb24"))]
        return [bytes(packet) for packet in packets + stream.encode(None)]


def python(code: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False, **how)


# Standard input and named pipes


@pytest.mark.parametrize("index", ["first", "last"])
def test_mp4_in_standard_input(index: str, reference: Path, index_last: Path) -> None:
    path, count = (reference, 72) if index == "first" else (index_last, 48)
    code = (
        "import logging; logging.basicConfig(level='INFO', format='%(message)s')\n"
        "from ga2clip.video import iter_frames; print(sum(1 for _ in iter_frames('-')))"
    )
    done = python(code, input=path.read_bytes())
    assert int(done.stdout) == count
    assert done.stderr.decode() == (
        "" if index == "first" else "standard input: copied to a temporary file first\n"
    )


def test_sampling_from_standard_input(index_last: Path) -> None:
    code = (
        "from ga2clip.video import *; clip = sample_frames('-', SamplingRule(4))\n"
        "print(clip.info.frames, *clip.times)"
    )
    done = python(code, input=index_last.read_bytes())
    count, *times = done.stdout.split()
    assert int(count) == 48
    np.testing.assert_allclose(np.array(times, float), np.array([6, 18, 30, 42]) / 24, atol=1e-3)


@contextmanager
def named_pipe(folder: Path, content: bytes) -> Iterator[Path]:
    pipe = folder / "pipe.mp4"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content), daemon=True)
    writer.start()
    yield pipe
    writer.join(timeout=10)


def test_a_named_pipe(tmp_path: Path, index_last: Path, shown: Shown) -> None:
    with named_pipe(tmp_path, index_last.read_bytes()) as pipe:
        clip = sample_frames(pipe, SamplingRule(4))
    assert shown(clip.frames) == [6, 18, 30, 42]
    pipe.unlink()
    with named_pipe(tmp_path, index_last.read_bytes()) as pipe:
        assert len(list(iter_frames(pipe))) == 48


def test_no_copy_is_left_behind(tmp_path: Path, index_last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.tempfile, "tempdir", str(tmp_path))
    with named_pipe(tmp_path, index_last.read_bytes()) as pipe:
        sample_frames(pipe, SamplingRule(4))
    pipe.unlink()
    monkeypatch.setattr(fetch, "MOST_BYTES", 1000)
    with (
        named_pipe(tmp_path, index_last.read_bytes()[:60_000]) as pipe,
        pytest.raises(VideoError, match="larger than"),
    ):
        sample_frames(pipe, SamplingRule(4))
    pipe.unlink()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(fetch.tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        named_pipe(tmp_path, index_last.read_bytes()[:60_000]) as pipe,
        pytest.raises(VideoError, match="cannot keep it in a temporary file"),
    ):
        sample_frames(pipe, SamplingRule(4))


@pytest.mark.parametrize(
    ("head", "whole"),
    [
        (b"\0\0\0\x14ftypisom" + b"\0" * 8 + b"\0\0\1\0moov", False),
        (b"\0\0\0\x14ftypisom" + b"\0" * 8 + b"\0\0\0\x08free" + b"\0\1\0\0mdat", True),
        (b"\0\0\0\x08wide" + b"\0\1\0\0mdat", True),
        (b"\0\1\0\0mdat", True),
        (b"\0\0\0\x14ftypisom" + b"\0" * 8 + b"\0\1\0\0free", True),  # what follows is not seen yet
        (b"\0\0\0\0ftyp", True),
        (b"RIFF\0\0\0\0WEBP", True),
        (b"RIFF\0\0\0\0AVI ", False),
        (b"\x1a\x45\xdf\xa3" + b"\0" * 30, False),
        (b"\x47" + b"\0" * 187, False),
        (b"", False),
    ],
)
def test_what_must_be_sought(head: bytes, whole: bool) -> None:
    assert fetch.must_be_whole(head) is whole


@pytest.mark.parametrize("pace", [0.06])
def test_frames_without_time_stamps_have_their_times_of_arrival(
    pace: float, tmp_path: Path, jpegs: list[bytes]
) -> None:
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("wb", buffering=0) as out:
            for jpeg in jpegs:
                out.write(jpeg)
                time.sleep(pace)

    writer = threading.Thread(target=feed, daemon=True)
    writer.start()
    times = [moment for moment, _ in iter_frames(pipe)]
    assert len(times) == len(jpegs)
    assert times[-1] > 0.8 * pace * (
        len(jpegs) - 3
    )  # at 25 frames per second it would be 0.44 s; the start is buffered
    assert times[-1] == pytest.approx(pace * (len(jpegs) - 1), abs=4 * pace)
    path = tmp_path / "recorded.mjpeg"
    path.write_bytes(b"".join(jpegs))
    assert [round(25 * moment) for moment, _ in iter_frames(path)] == list(range(12))


# Addresses


class Files(http.server.SimpleHTTPRequestHandler):
    """A web server without ranges, as Python's own is."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def answer(head: str, *parts: bytes, pause: float = 0.0, stay: float = 0.0) -> Any:
    """A handler that answers every request with a head and parts, and closes the connection `stay` seconds later."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(f"HTTP/1.0 200 OK\r\n{head}\r\n\r\n".encode())
            for part in parts:
                self.request.sendall(part)
                time.sleep(pause)
            time.sleep(stay)

    return Handler


def test_a_recorded_file_at_an_address(index_last: Path, shown: Shown) -> None:
    with serving(functools.partial(Files, directory=str(index_last.parent))) as web:
        address = f"{web}/index_last.mp4"
        for source in (address, Path(address)):
            clip = sample_frames(source, SamplingRule(4))
            assert shown(clip.frames) == [6, 18, 30, 42]
        with Playback(address) as playback:
            assert not playback.live
            assert len(list(playback.frames())) == 48
        with pytest.raises(VideoError, match=r"missing.mp4.*not found"):
            sample_frames(f"{web}/missing.mp4", SamplingRule(4))


def test_a_file_whose_connection_breaks(reference: Path) -> None:
    data = reference.read_bytes()
    head = f"Content-Type: video/mp4\r\nContent-Length: {len(data)}"
    with serving(answer(head, data[: len(data) // 2])) as web:
        for read in (
            lambda: sample_frames(f"{web}/a.mp4", SamplingRule(4)),
            lambda: list(iter_frames(f"{web}/a.mp4")),
        ):
            with pytest.raises(VideoError, match=r"connection broke: [0-9]+ bytes are missing"):
                read()


def test_a_live_stream_that_ends_is_an_error(tmp_path: Path, make: Make) -> None:
    data = make(tmp_path / "live.ts", 48, options={"g": "12"}).read_bytes()
    with serving(answer("Content-Type: video/mp2t", data)) as web:
        seen: list[float] = []
        with pytest.raises(VideoError, match=r"the live stream ended after 2\.0 s"):
            seen.extend(moment for moment, _ in iter_frames(f"{web}/live"))
        assert len(seen) == 48
        with Playback(f"{web}/live") as playback:
            assert playback.live
        with pytest.raises(VideoError, match="it is a stream") as caught:
            sample_frames(f"{web}/live", SamplingRule(4))
        assert caught.value.hint == "add --follow"


def test_an_answer_without_length_whose_header_has_a_duration_is_recorded(reference: Path) -> None:
    served = answer("Content-Type: video/mp4", reference.read_bytes())
    with serving(served) as web, Playback(f"{web}/recorded.mp4") as playback:
        assert not playback.live
        assert len(list(playback.frames())) == 72


def test_a_camera_runs_on_the_wall_clock(jpegs: list[bytes]) -> None:
    parts = [
        b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
        for jpeg in jpegs
    ]
    head = "Content-Type: multipart/x-mixed-replace; boundary=cut"
    with serving(answer(head, *parts, pause=0.06)) as web:
        times: list[float] = []
        with pytest.raises(VideoError, match="the live stream ended"):
            times.extend(moment for moment, _ in iter_frames(f"{web}/camera"))
    assert len(times) >= len(jpegs) - 1
    assert times[-1] == pytest.approx(0.06 * (len(jpegs) - 1), abs=0.25)


def test_a_camera_that_falls_silent(monkeypatch: pytest.MonkeyPatch, jpegs: list[bytes]) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.3)
    part = b"--cut\r\nContent-Type: image/jpeg\r\n\r\n" + jpegs[0] + b"\r\n"
    camera = answer("Content-Type: multipart/x-mixed-replace; boundary=cut", part * 3, stay=1.0)
    with serving(camera) as web, pytest.raises(VideoError, match=r"no data for 0\.3 s"):
        list(iter_frames(f"{web}/camera"))


def test_a_stream_that_is_no_http(tmp_path: Path, make: Make) -> None:
    data = make(tmp_path / "live.ts", 48, options={"g": "12"}).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def feed() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)

        thread = threading.Thread(target=feed, daemon=True)
        thread.start()
        with pytest.raises(VideoError, match="the live stream ended"):
            list(iter_frames(f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        thread.join()


@pytest.mark.parametrize("ended", [True, False])
def test_playlists_at_an_address(ended: bool, tmp_path: Path, make: Make) -> None:
    make(tmp_path / "a.ts", 24, fps=12, options={"g": "12"})
    end = "#EXT-X-ENDLIST\n" if ended else ""
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\na.ts\n{end}")
    handler = functools.partial(Files, directory=str(tmp_path))
    with serving(handler) as web, Playback(f"{web}/list.m3u8") as playback:
        assert playback.live is not ended
        if ended:
            assert len(list(playback.frames())) == 24


def test_a_local_file_is_itself(reference: Path) -> None:
    for name in (str(reference), f"file://{reference}"):
        with local_file(name) as found:
            assert (found.name, found.path) == (name, str(reference))
        assert len(list(iter_frames(name))) == 72
