"""Small real videos, and folders laid out as the owners of the datasets hand them out."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

CODECS = {".mp4": "libx264", ".avi": "mpeg4", ".webm": "libvpx"}


def moving_square(seed: int, frames: int = 10, height: int = 48, width: int = 64) -> np.ndarray:
    """A square that moves over a plain ground; its colour and path follow from the seed."""
    rng = np.random.default_rng(seed)
    clip = np.empty((frames, height, width, 3), dtype=np.uint8)
    clip[:] = rng.integers(0, 100, 3)
    colour, row = rng.integers(120, 256, 3), int(rng.integers(0, height - 12))
    for t, frame in enumerate(clip):
        column = (t * (width - 12)) // max(frames - 1, 1)
        frame[row : row + 12, column : column + 12] = colour
    return clip


def encode(path: Path, frames: np.ndarray) -> None:
    """Write frames with the codec that goes with the suffix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))


VideoMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> VideoMaker:
    """make_video(path, seed=0, frames=10): a real video; the same seed is encoded once per session."""
    store = tmp_path_factory.mktemp("videos")

    def make(path: Path, seed: int = 0, frames: int = 10) -> Path:
        source = store / f"{seed}_{frames}{path.suffix}"
        if not source.exists():
            encode(source, moving_square(seed, frames))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        return path

    return make


def truncate(path: Path) -> Path:
    """Leave a beginning from which no picture can be decoded."""
    path.write_bytes(path.read_bytes()[:100])
    return path


@pytest.fixture
def ucf101(tmp_path: Path, make_video: VideoMaker) -> Path:
    """Two classes of 4 clips, three splits; one clip broken, one not there."""
    root = tmp_path / "ucf"
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    classes = ("ApplyEyeMakeup", "YoYo")
    names = {}
    for number, name in enumerate(classes):
        names[name] = [f"{name}/v_{name}_g{group:02d}_c01.avi" for group in (1, 2, 3, 4)]
        for clip, path in enumerate(names[name]):
            make_video(root / "UCF-101" / path, seed=10 * number + clip)
    truncate(root / "UCF-101" / names["YoYo"][0])
    (root / "UCF-101" / names["ApplyEyeMakeup"][3]).unlink()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 YoYo\r\n")
    for split in (1, 2, 3):
        train, test = [], []
        for number, name in enumerate(classes, start=1):
            held_out = names[name][split - 1]
            test.append(held_out)
            train += [f"{path} {number}" for path in names[name] if path != held_out]
        (lists / f"trainlist0{split}.txt").write_text("\r\n".join(train) + "\r\n")
        (lists / f"testlist0{split}.txt").write_text("\r\n".join(test) + "\r\n")
    return root
