"""Every reader of bytes from outside, fed with damaged files: it reads them or raises a UserError that names them.

Hypothesis damages valid files: cuts, flipped bits, bytes moved and repeated, and for JSON and TOML other values in any
place. Beside the answer, time, memory and writing are watched. `make fuzz` looks longer, with fresh numbers each
time; what it finds, Hypothesis shrinks and prints.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
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
        side = opened.card.preprocess.size
        frames = np.zeros((2, min(side, 64), min(side, 64), 3), np.uint8)
        for classes in (None, ["ab", "abc c"]):
            answer = predictor.predict_frames(frames, classes, reject=predictor.model.threshold is not None)
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


def read_frames(path: Path) -> None:
    """The cached frames of the clip, by the index and from the archive."""
    from ga2clip.data.cache import FrameStore

    root = path.parents[2]
    store = FrameStore.find(root)
    if store is not None and (clip := _cached_clip(root)) in store:
        store.read(clip, range(min(store.count(clip), 3)))


def read_classes(path: Path) -> None:
    from ga2clip.labels import read_class_list

    read_class_list(path)


def read_labels(path: Path) -> None:
    from ga2clip.label_files import read_labels

    read_labels(path)


def read_clips(path: Path) -> None:
    from ga2clip.label_files import read_clip_list

    read_clip_list(path)


def read_tokenizer(path: Path) -> None:
    from ga2clip.tokenizer import ClipTokenizer

    ClipTokenizer.from_json(path).encode("abc ab c")


def read_other_tokenizer(path: Path) -> None:
    from ga2clip.tokenizer_json import JsonTokenizer

    JsonTokenizer.from_file(path, cleaning="canonicalize", pad=0).tokens(["kicking ｆive balls"])


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
    line = {"epoch": 1, "lr": 0.01, "loss": 0.5, "accuracy": 0.5, "grad_norm": None, "term": 0.25}
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": n} | line) + "\n" for n in range(1, 5)), encoding="utf-8")
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


def other_tokenizer_file(folder: Path) -> Path:
    from tests.small_tokenizers import siglip

    return siglip().write(folder) / "tokenizer.json"


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


def _cached_clip(root: Path) -> Any:
    from ga2clip.data.manifest import Clip

    return Clip("clip.mp4", "a", "train", 3, 0.3, file_sha256(root / "clip.mp4"))


def frame_cache(suffix: str) -> Callable[[Path], Path]:
    def setup(folder: Path) -> Path:
        from ga2clip.data.cache import plan_shards, write_shard

        video_file(folder)
        ((shard, clips),) = plan_shards(folder, [_cached_clip(folder)])
        shard.parent.mkdir(parents=True, exist_ok=True)
        assert write_shard(shard, folder, clips, lambda clip: None) == []
        assert shard.parents[2] == folder
        return shard.with_suffix(suffix)

    return setup


LABELS = {"riding a bike": "0", "rowing, fast": "1"}
READERS: dict[str, Reader] = {
    "settings.toml": Reader("toml", settings_file, read_settings),
    "prompts.safetensors": Reader("bytes", run_file, read_run),
    "metrics.jsonl": Reader("jsonl", metrics_file, read_metrics),
    "manifest.json": Reader("json", manifest_file, read_manifest),
    "class list": Reader(
        "text", text_file("classes.txt", "riding a bike\n# note\nrowing, fast\n\n"), read_classes
    ),
    "label JSON": Reader("json", text_file("labels.json", json.dumps(LABELS)), read_labels),
    "frame index": Reader("json", frame_cache(".json"), read_frames),
    "frame archive": Reader("bytes", frame_cache(".tar"), read_frames),
    "label CSV": Reader("text", text_file("labels.csv", "id,name\n0,riding a bike\n1,rowing\n"), read_labels),
    "label pbtxt": Reader(
        "text", text_file("labels.pbtxt", 'item {\n  name: "run"\n  id: 1\n}\n'), read_labels
    ),
    "clip list": Reader("text", text_file("list.txt", "a/1.mp4 0\nb/2.mp4 1\n"), read_clips),
    "tokenizer.json": Reader("json", tokenizer_file, read_tokenizer),
    "tokenizer.json of SigLIP": Reader("json", other_tokenizer_file, read_other_tokenizer),
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


@pytest.fixture
def check(
    tmp_path: Path,
    watched: Callable[[Path], AbstractContextManager[None]],
    damaged: Callable[[bytes, str], st.SearchStrategy[bytes]],
) -> Callable[[Reader, int], None]:
    """Hypothesis's search over damaged versions of a reader's file, so many of them."""
    (tmp_path / "read").mkdir()
    return lambda reader, examples: _search(reader, examples, tmp_path / "read", watched, damaged)


def _search(
    reader: Reader,
    examples: int,
    folder: Path,
    watched: Callable[[Path], AbstractContextManager[None]],
    damaged: Callable[[bytes, str], st.SearchStrategy[bytes]],
) -> None:
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
        refusal = ""
        with watched(folder):
            try:
                reader.read(path)
            except UserError as error:
                refusal = f"{error.message} {error.hint}"
        named = (path.name, path.with_suffix(".tar").name)  # an index of frames misleads into its archive
        assert not refusal or any(name in refusal for name in named)

    search()


def _bundle_reader(handmade: Path, name: str) -> Reader:
    def setup(folder: Path) -> Path:
        shutil.copytree(handmade, folder, dirs_exist_ok=True)
        return folder / name

    return Reader(BUNDLE_FILES[name], setup, use_bundle)


@pytest.mark.parametrize("name", READERS)
def test_reader(check: Callable[[Reader, int], None], name: str) -> None:
    check(READERS[name], EXAMPLES or _FAST)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_bundle(check: Callable[[Reader, int], None], handmade: Path, name: str) -> None:
    check(_bundle_reader(handmade, name), EXAMPLES or _FAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_reader_longer(check: Callable[[Reader, int], None], name: str) -> None:
    check(READERS[name], EXAMPLES or _SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_bundle_longer(check: Callable[[Reader, int], None], handmade: Path, name: str) -> None:
    check(_bundle_reader(handmade, name), EXAMPLES or _SLOW)
