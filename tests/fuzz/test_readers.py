"""Every reader of bytes from outside, fed with damaged files: it reads them or raises a UserError, and no more.

Hypothesis damages valid files: cuts, flipped bits, bytes moved and repeated, and for JSON and TOML other values in any
place. Beside the answer, time, memory and writing are watched. `make fuzz` looks longer, with fresh numbers each
time; what it finds, Hypothesis shrinks and prints.
"""

import io
import json
import os
import resource
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ga2clip.errors import UserError
from ga2clip.files import file_sha256

EXAMPLES = int(os.environ.get("GA2CLIP_FUZZ", "0"))
"""Examples for each reader; 0: the few of the fast suite, always the same."""
_FAST, _SLOW = 12, 400
_SECONDS = 20.0  # on a busy machine; a bomb takes longer by far
_MEGABYTES = 1500
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 1e308, -1e308, 2**70, 0.5, float("nan"), float("inf")),
    *("", "x" * 5000, "\x1b[2J\n", "\ud800", "=1+1", "../../etc/passwd", "{}", "{"),
    *([], {}, [[]], [None], ["a", "a"], {"a": {}}, [[[[[[[[[[]]]]]]]]]], [0] * 200),
)


# ------------------------------------------------------------------------------------------------ what is watched
_opened: list[str] = []


def _note_writing(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        flags = arguments[2] or 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _opened.append(arguments[0])
    elif event in (
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "shutil.rmtree",
        "os.symlink",
        "os.link",
    ):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_writing)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Nothing is written outside the folder, and time and memory are bounded, while the block runs."""
    _opened.clear()
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    seconds = time.monotonic() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    outside = [
        path
        for path in _opened
        if not Path(path).resolve().is_relative_to(folder.resolve()) and path != os.devnull
    ]
    assert outside == []
    assert seconds < _SECONDS, f"{seconds:.1f} s"
    assert grown < _MEGABYTES, f"{grown:.0f} MB"


# --------------------------------------------------------------------------------------------------- damaged files
@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, flipped, moved, repeated or replaced bytes of a file, up to four times."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "flip", "drop", "repeat", "random", "far", "nasty"])):
            case "cut":
                del data[place:]
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del data[place : place + length]
            case "repeat":
                data[place:place] = data[place : place + length] * draw(st.integers(1, 40))
            case "random":
                data[place : place + length] = draw(st.binary(max_size=length))
            case "far":
                data[place:place] = data[: draw(st.integers(0, 64))]
            case "nasty":
                data[place:place] = draw(
                    st.sampled_from(
                        [b"\0", b"\xff\xfe", b"1e999", b"NaN", b"\n", b'"', b"[" * 5000, b"9" * 5000]
                    )
                )
    return bytes(data)


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value inside a tree of dicts and lists (of long lists, the first few)."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:8]) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))


@st.composite
def damaged_tree(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with values replaced, removed, swapped or added."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 3))):
        every = list(places(tree))
        if not every:
            return draw(st.sampled_from(NASTY))
        *above, key = draw(st.sampled_from(every))
        parent = tree
        for step in above:
            parent = parent[step]
        match draw(st.sampled_from(["value", "value", "remove", "swap", "add"])):
            case "value":
                parent[key] = draw(st.sampled_from(NASTY))
            case "remove":
                del parent[key]
            case "swap":
                *other, last = draw(st.sampled_from(every))
                try:
                    source = tree
                    for step in (*other, last):
                        source = source[step]
                    parent[key] = json.loads(json.dumps(source))
                except (KeyError, IndexError, TypeError):
                    pass
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["", "extra", "\x1b[2J", "__class__"]))] = draw(
                    st.sampled_from(NASTY)
                )
    return tree


def damaged(content: bytes, kind: str) -> st.SearchStrategy[bytes]:
    """Damage of a file. kind: `json`, `jsonl` and `toml` are changed inside too, anything else as bytes only."""
    as_bytes = damaged_bytes(content)
    if kind == "json":
        return st.one_of(damaged_tree(json.loads(content)).map(as_json), as_bytes)
    if kind == "jsonl":
        rows = [json.loads(line) for line in content.decode().splitlines()]
        return (
            st.one_of(damaged_tree(rows).map(lambda made: b"\n".join(map(as_json, made)) + b"\n"), as_bytes)
            if (isinstance(rows, list))
            else as_bytes
        )
    if kind == "npz":
        return st.one_of(damaged_archive(content), as_bytes)
    return as_bytes


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


@st.composite
def damaged_archive(draw: st.DrawFn, content: bytes) -> bytes:
    """An .npz in which one array has another type or shape, is missing, is compressed or stands twice."""
    with np.load(io.BytesIO(content)) as arrays:
        made = dict(arrays)
    name = draw(st.sampled_from(sorted(made)))
    array = made.pop(name)
    kind = draw(st.sampled_from(["missing", "type", "shape", "object", "value", "compressed", "header"]))
    target = io.BytesIO()
    if kind == "type":
        made[name] = (
            array.astype(draw(st.sampled_from(["<f8", "<U9", "|b1", "<c16", "|S3"])), casting="unsafe")
            if (array.dtype.kind != "U")
            else array.astype("|S9")
        )
    elif kind == "shape":
        made[name] = array[None] if draw(st.booleans()) else array.reshape(-1)[:1]
    elif kind == "object":
        made[name] = array.astype(object)
    elif kind == "value" and array.dtype.kind in "fui":
        made[name] = np.full_like(array, draw(st.sampled_from([0, 1, 255])))
    (np.savez_compressed if kind == "compressed" else np.savez)(target, **made)
    if kind == "header":
        shape = draw(st.sampled_from([(10**9, 10**9), (-1,), (2**62, 4), (0,)]))
        header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return target.getvalue()


# --------------------------------------------------------------------------------------------------------- readers
@dataclass(frozen=True)
class Reader:
    """A valid file and who reads it. setup makes it (and what belongs to it) in an empty folder."""

    kind: str
    setup: Callable[[Path], Path]
    read: Callable[[Path], object]


def use_bundle(path: Path) -> None:
    """What `info` and `predict` do, with a class of the bank and a new one."""
    from ga2clip.runtime import Predictor, open_bundle

    folder = path.parent
    if path.name != "bundle.json":  # as a forger would
        card = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        card["files"][path.name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        (folder / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    opened = open_bundle(folder)
    assert all(line.isprintable() for line in opened.describe().splitlines())
    with Predictor(folder, provider="cpu", threads=1, cache=False) as predictor:
        side = predictor.card.preprocess.size
        frames = np.zeros((2, min(side, 64), min(side, 64), 3), np.uint8)
        for classes in (None, ["ab", "abc c"]):
            answer = predictor.predict_frames(frames, classes, reject=predictor.can_reject)
            assert all(0 <= probability <= 1 for _, probability in answer.predictions)
    opened.verify()


def read_settings(path: Path) -> None:
    from ga2clip.settings import Settings

    Settings.read(path)


def read_run(path: Path) -> None:
    from ga2clip.run import load_run

    load_run(path.parent).state()


def read_metrics(path: Path) -> None:
    from ga2clip.run import read_metrics

    read_metrics(path.parent)


def read_manifest(path: Path) -> None:
    from ga2clip.data.manifest import Manifest

    manifest = Manifest.read(path.parent)
    assert all(isinstance(clip.path, str) for clip in manifest.in_split(1))
    assert isinstance(manifest.broken, dict)


def read_index(path: Path) -> None:
    from ga2clip.data.cache import FrameStore

    FrameStore.find(path.parents[2])


def read_classes(path: Path) -> None:
    from ga2clip.labels import read_class_list

    read_class_list(path)


def read_labels(path: Path) -> None:
    from ga2clip.data.splits import read_label_csv

    read_label_csv(path)


def read_clips(path: Path) -> None:
    from ga2clip.data.splits import read_clip_list

    read_clip_list(path)


def read_tokenizer(path: Path) -> None:
    from ga2clip.tokenizer import ClipTokenizer

    ClipTokenizer.from_json(path).encode("abc ab c")


def read_weights(path: Path) -> None:
    from ga2clip.model.weights import read_weights

    read_weights(path)


def read_video(path: Path) -> None:
    from ga2clip.video import probe

    probe(path, time_limit=5.0)


def settings_file(folder: Path) -> Path:
    from ga2clip.settings import Settings

    (folder / "settings.toml").write_text(Settings().to_toml(), encoding="utf-8")
    return folder / "settings.toml"


def run_file(folder: Path) -> Path:
    from safetensors.numpy import save_file

    settings_file(folder)
    meta = {"schema": 1, "classes": ["a", "b"], "method": "ga2", "backbone": "tiny", "licence": "MIT"}
    tensors = {"prompts.text": np.zeros((2, 4), np.float32)}
    save_file(
        tensors, folder / "prompts.safetensors", {key: json.dumps(value) for key, value in meta.items()}
    )
    return folder / "prompts.safetensors"


def metrics_file(folder: Path) -> Path:
    path = folder / "metrics.jsonl"
    path.write_text(
        "".join(f'{{"step": {n}, "loss": 0.{n}, "rate": 0.01}}\n' for n in range(1, 5)), encoding="utf-8"
    )
    return path


def manifest_file(folder: Path) -> Path:
    from ga2clip.data.manifest import Clip, Manifest

    clips = (
        Clip("a/1.mp4", "a", "train", 12, 1.5, "0" * 64, "g1", ("test",), 48, 36),
        Clip("b/2.mp4", "b", "test", 10, 1.0, "1" * 64),
    )
    meta = {"rule": "folders", "seed": 0, "broken": [["b/3.mp4", "cut"]]}
    return Manifest("folder", folder, ("a", "b"), ("a",), clips, meta).write()


def text_file(name: str, text: str) -> Callable[[Path], Path]:
    def setup(folder: Path) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return setup


def tokenizer_file(folder: Path) -> Path:
    from ga2clip.tokenizer import ClipTokenizer

    (folder / "tokenizer.json").write_text(
        ClipTokenizer([("a", "b"), ("ab", "c</w>")]).to_json(), encoding="utf-8"
    )
    return folder / "tokenizer.json"


def checkpoint(name: str) -> Callable[[Path], Path]:
    def setup(folder: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        state = {"visual.proj": torch.zeros(4, 3), "logit_scale": torch.tensor(1.0)}
        if name.endswith(".safetensors"):
            save_file(state, folder / name)
        else:
            torch.save({"state_dict": state, "epoch": 3}, folder / name)
        return folder / name

    return setup


def video_file(folder: Path) -> Path:
    from ga2clip.video import write_video

    write_video(folder / "clip.mp4", np.zeros((3, 16, 16, 3), np.uint8), 10)
    return folder / "clip.mp4"


READERS: dict[str, Reader] = {
    "settings.toml": Reader("toml", settings_file, read_settings),
    "prompts.safetensors": Reader("bytes", run_file, read_run),
    "metrics.jsonl": Reader("jsonl", metrics_file, read_metrics),
    "manifest.json": Reader("json", manifest_file, read_manifest),
    "class list": Reader(
        "text", text_file("classes.txt", "riding a bike\n# note\nrowing, fast\n\n"), read_classes
    ),
    "label CSV": Reader("text", text_file("labels.csv", "id,name\n0,riding a bike\n1,rowing\n"), read_labels),
    "clip list": Reader("text", text_file("list.txt", "a/1.mp4 0\nb/2.mp4 1\n"), read_clips),
    "tokenizer.json": Reader("json", tokenizer_file, read_tokenizer),
    "weights.safetensors": Reader("bytes", checkpoint("w.safetensors"), read_weights),
    "weights.pt": Reader("bytes", checkpoint("w.pt"), read_weights),
    "video": Reader("bytes", video_file, read_video),
}
BUNDLE_FILES = {
    "bundle.json": "json",
    "text_bank.npz": "npz",
    "probe.npz": "npz",
    "tokenizer.json": "json",
    "video_encoder.onnx": "bytes",
    "text_encoder.onnx": "bytes",
}


def check(reader: Reader, folder: Path, examples: int) -> None:
    """Hypothesis's search over damaged versions of the reader's file."""
    path = reader.setup(folder)
    content = path.read_bytes()
    keep = folder.with_name("whole")
    shutil.copytree(folder, keep)
    reader.read(path)  # the valid one is read, so that a refusal means something

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(content, reader.kind))
    def search(changed: bytes) -> None:
        shutil.rmtree(folder)
        shutil.copytree(keep, folder)
        path.write_bytes(changed)
        with watched(folder):
            refused = None
            try:
                reader.read(path)
            except UserError as error:
                refused = error.message
        assert refused is None or (refused.isprintable() and "unexpected" not in refused)

    search()


def _bundle_reader(handmade: Path, name: str) -> Reader:
    def setup(folder: Path) -> Path:
        shutil.copytree(handmade, folder, dirs_exist_ok=True)
        return folder / name

    return Reader(BUNDLE_FILES[name], setup, use_bundle)


@pytest.mark.parametrize("name", READERS)
def test_reader(tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    check(READERS[name], tmp_path / "d", EXAMPLES or _FAST)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_bundle(handmade: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    check(_bundle_reader(handmade, name), tmp_path / "d", EXAMPLES or _FAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*READERS, *(f"bundle {name}" for name in BUNDLE_FILES)])
def test_longer(handmade: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    reader = READERS[name] if name in READERS else _bundle_reader(handmade, name.removeprefix("bundle "))
    check(reader, tmp_path / "d", EXAMPLES or _SLOW)
