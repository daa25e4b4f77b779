"""Small real videos, and folders laid out as the owners of the datasets hand them out."""

import json
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


@pytest.fixture
def hmdb51(tmp_path: Path, make_video: VideoMaker) -> Path:
    """Two classes of 4 clips with codes 1, 1, 2, 0 in split 1; a broken test clip, and one that is not there."""
    root = tmp_path / "hmdb"
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for number, name in enumerate(("brush_hair", "wave")):
        clips = [f"#a [x] & b;{clip}_{name}_u_nm_np1_ba_goo_0.avi" for clip in range(4)]
        for clip, file in enumerate(clips):
            make_video(root / "hmdb51_org" / name / file, seed=20 * number + clip)
        for split in (1, 2, 3):
            codes = ("1120", "1201", "2011")[split - 1]
            lines = [f"{file} {code} " for file, code in zip(clips, codes, strict=True)]
            (lists / f"{name}_test_split{split}.txt").write_text("\n".join(lines) + "\n")
    truncate(root / "hmdb51_org" / "wave" / "#a [x] & b;2_wave_u_nm_np1_ba_goo_0.avi")
    (root / "hmdb51_org" / "brush_hair" / "#a [x] & b;1_brush_hair_u_nm_np1_ba_goo_0.avi").unlink()
    return root


@pytest.fixture
def ssv2(tmp_path: Path, make_video: VideoMaker) -> Path:
    """Two templates of 2 training and 1 validation clips, `.webm`; a broken validation clip."""
    root = tmp_path / "ssv2"
    labels = {"Pushing something from left to right": "1", "Holding something": "0"}
    templates = ["Holding [something]", "Pushing [something] from left to right"]
    items = []
    for number in range(6):
        make_video(root / "20bn-something-something-v2" / f"{100 + number}.webm", seed=40 + number)
        items.append(
            {
                "id": str(100 + number),
                "label": "holding a cup",
                "template": templates[number % 2],
                "placeholders": [],
            }
        )
    (root / "something-something-v2-labels.json").write_text(json.dumps(labels))
    (root / "something-something-v2-train.json").write_text(
        json.dumps([*items[:4], {**items[0], "id": "999"}])
    )
    (root / "something-something-v2-validation.json").write_text(json.dumps(items[4:]))
    truncate(root / "20bn-something-something-v2" / "105.webm")
    return root


@pytest.fixture
def kinetics400(tmp_path: Path, make_video: VideoMaker) -> Path:
    """Class folders in train/, flat val/, other spellings of the times; a broken clip and dead links."""
    root = tmp_path / "k400"
    rows = [
        ("abseiling", "-aA_1", 3, 13, "train", "train/abseiling/-aA_1_000003_000013.mp4"),
        ("abseiling", "bb_b2", 0, 10, "train", "train/abseiling/bb_b2_0_10.mp4"),
        ("air drumming", "cc3", 7, 17, "train", "train/air_drumming/cc3_000007_000017.mp4"),
        ("air drumming", "dd4", 1, 11, "train", ""),
        ("abseiling", "ee5", 5, 15, "validate", "val/ee5_000005_000015.mp4"),
        ("air drumming", "ff6", 6, 16, "validate", "val/ff6_000006_000016.mp4"),
    ]
    for number, (*_, file) in enumerate(rows):
        if file:
            make_video(root / file, seed=60 + number)
    truncate(root / "val/ff6_000006_000016.mp4")
    (root / "annotations").mkdir()
    for split, name in (("train", "train.csv"), ("validate", "val.csv")):
        lines = [
            f'"{label}",{id},{start},{end},{kind}' for label, id, start, end, kind, _ in rows if kind == split
        ]
        text = "\n".join(["label,youtube_id,time_start,time_end,split", *lines]) + "\n"
        (root / "annotations" / name).write_text(text)
    (root / "annotations" / "other.csv").write_text("a,b\n1,2\n")
    return root


@pytest.fixture
def kinetics600(kinetics400: Path) -> Path:
    """The same, in a folder of its own."""
    return kinetics400.rename(kinetics400.with_name("k600"))


@pytest.fixture
def folder(tmp_path: Path, make_video: VideoMaker) -> Path:
    """Two class folders of 4 clips without a split; one clip broken."""
    root = tmp_path / "mine"
    for number, name in enumerate(("doing_yoga", "JumpRope")):
        for clip in range(4):
            make_video(root / name / f"{clip}.mp4", seed=80 + 10 * number + clip)
    truncate(root / "JumpRope" / "2.mp4")
    return root


@pytest.fixture
def csv(folder: Path) -> Path:
    """The same clips with a list of their own beside the folder; a clip of the list is not there."""
    lines = [
        f"{name}/{clip}.mp4,{label},{'test' if clip > 1 else 'train'}"
        for name, label in (("doing_yoga", "yoga"), ("JumpRope", "jumping a rope"))
        for clip in range(4)
    ]
    (folder.parent / "list.csv").write_text(
        "path,label,split\n" + "\n".join(lines) + "\nnone.mp4,yoga,train\n"
    )
    return folder
