"""Fixtures for all rooms: a random CLIP small enough for thousands of steps; a model, a bundle and a clip of it."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ga2clip.video import write_video

if threading.current_thread() is threading.main_thread():
    # A shell that starts the tests in the background lets them ignore Ctrl-C; commands that they start must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; one thread each


CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 3},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
}


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test draws the same numbers whatever ran before it; one that does without torch doesn't load it for that."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _same_loggers() -> Iterator[None]:
    """Commands that run inside a test send messages to stderr; later tests must not find that."""
    if module := sys.modules.get("ga2clip.model.load_backbone"):
        module._warn_once.cache_clear()
    loggers = [logging.getLogger(name) for name in (None, "ga2clip", "ga2clip_export")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture(autouse=True)
def _drawings_once() -> None:
    """The drawings that most exports measure on are the same in every test, and take a third of an export's time."""
    module = sys.modules.get("ga2clip_export.calibration_clips")
    if module and not hasattr(module.built_in, "cache_info"):
        module.built_in = cache(module.built_in)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a test run (pytest-xdist's workers have folders of their own inside it)."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shared"


@pytest.fixture(scope="module")
def traced_once(shared_folder: Path) -> Iterator[None]:
    """Exports of this module take encoders that equal ones were traced for before, in whatever module."""
    from tests.traced_once import traced_once

    with traced_once(shared_folder):
        yield


@pytest.fixture(scope="session")
def clip_weights() -> dict[str, "object"]:
    """The state dict of a random CLIP in OpenAI's naming: 16 px, patch 8, width 64, 3 + 3 blocks, D = 32."""
    import open_clip
    import torch

    torch.manual_seed(0)
    clip = open_clip.CLIP(**CLIP_CONFIG, quick_gelu=True)
    return dict(clip.state_dict())


@pytest.fixture(scope="session")
def clip_file(clip_weights: dict[str, "object"], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random CLIP's weights and its config as files that `--pretrained` takes."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file(clip_weights, path)
    path.with_suffix(".json").write_text(json.dumps({**CLIP_CONFIG, "quick_gelu": True}))
    return path


@pytest.fixture
def make_backbone(clip_weights: dict[str, "object"]) -> Callable[[], "object"]:
    """A function that builds a fresh random CLIP backbone (always the same weights)."""
    from ga2clip.model.load_backbone import backbone_from_weights

    return lambda: backbone_from_weights(clip_weights, source="random", quick_gelu=True, head_width=64)


@pytest.fixture(scope="session")
def handmade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two tiny linear encoders, made without torch in milliseconds: 8 px, 2 frames, D = 4, 2 classes."""
    from onnx import TensorProto, helper, numpy_helper, save

    from ga2clip.files import file_sha256
    from ga2clip.tokenizer import ClipTokenizer

    folder = tmp_path_factory.mktemp("handmade") / "bundle"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = (rng.normal(size=(192, 4)) / 1000).astype(np.float32)
    table = rng.normal(size=(520, 4)).astype(np.float32)

    def write(name: str, given: object, nodes: list, outputs: list, constants: dict[str, np.ndarray]) -> None:
        tensors = [numpy_helper.from_array(array, key) for key, array in constants.items()]
        graph = helper.make_graph(nodes, "g", [given], outputs, tensors)
        save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
            str(folder / name),
        )

    def info(name: str, *shape: "int | str", kind: int = TensorProto.FLOAT) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    write(
        "video_encoder.onnx",
        info("frames", "b", "t", 8, 8, 3, kind=TensorProto.UINT8),
        [
            helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["x", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "pixels"], ["frame_features"]),
            helper.make_node("ReduceMean", ["frame_features", "one"], ["video_features"], keepdims=0),
        ],
        [info("frame_features", "b", "t", 4), info("video_features", "b", 4)],
        {"flat": np.array([0, 0, 192]), "pixels": pixels, "one": np.array([1])},
    )
    write(
        "text_encoder.onnx",
        info("ids", "n", "l", kind=TensorProto.INT64),
        [
            helper.make_node("Gather", ["table", "ids"], ["words"]),
            helper.make_node("ReduceMean", ["words", "one"], ["features"], keepdims=0),
        ],
        [info("features", "n", 4)],
        {"table": table, "one": np.array([1])},
    )
    tokenizer = ClipTokenizer([("a", "b"), ("ab", "c</w>")])
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    bank = np.eye(2, 4, dtype=np.float32)
    np.savez(folder / "text_bank.npz", classes=np.array(["ab", "abc"]), features=bank, negatives=bank[:1])
    frames = rng.integers(0, 256, (1, 2, 8, 8, 3), dtype=np.uint8)
    ids = tokenizer.tokens(["ab"])
    np.savez(
        folder / "probe.npz",
        frames=frames,
        frame_features=frames.reshape(1, 2, 192).astype(np.float32) @ pixels,
        ids=ids,
        text_features=table[ids].mean(axis=1),
    )
    agreement = {"max_abs": 0.0, "min_cosine": 1.0}
    card = {
        "schema_version": 1,
        "method": "linear",
        "backbone": {"name": "linear", "pretrained": "none", "licence": "MIT"},
        "licence": "MIT",
        "precision": "fp32",
        "classes": ["ab", "abc"],
        "preprocess": {"size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "sampling": {"frames": 2},
        "text": {"template": "{}", "prompt_tokens": 0, "placeholder": 1, "context": 16},
        "logit_scale": 10.0,
        "embedding": 4,
        "reject": None,
        "negatives": ["c"],
        "onnx": {"opset": 20, "static": False},
        "agreement": {
            "outputs": dict.fromkeys(("frame_features", "video_features", "text_features"), agreement),
            "top1": 1.0,
            "top1_but_ties": 1.0,
            "max_probability_error": 0.0,
            "clips": 1,
            "texts": 1,
            "tolerance": {"min_cosine": 0.99},
        },
        "trained": {"dataset": "none"},
        "versions": {"ga2clip": "0.1.0"},
        "files": {
            path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
            for path in sorted(folder.iterdir())
        },
    }
    (folder / "bundle.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    return folder


CLASSES = ("kicking a ball", "riding a bike", "rowing a boat")


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 12 frames 48×36: a bright square that moves over a dim pattern."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12)


def write_clip(path: Path, *, frames: int, fps: int = 10) -> Path:
    """A video whose pictures differ from frame to frame."""
    pixels = np.zeros((frames, 36, 48, 3), np.uint8)
    pixels[:] = np.arange(48, dtype=np.uint8)[None, None, :, None] * 3
    for index in range(frames):
        left = index * 36 // frames
        pixels[index, 8:24, left : left + 12] = (230, 40 + 10 * (index % 8), 90)
    write_video(path, pixels, fps)
    return path


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "open_clip", "onnx", "onnxscript", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import json
from pathlib import Path
from ga2clip.runtime import Predictor
bundle, clip, questions = json.loads(sys.argv[1])
with Predictor(bundle, provider="cpu", threads=1) as predictor:
    print(json.dumps([predictor.predict(clip, top=99, **question).to_json() for question in questions]))
"""


@pytest.fixture
def predict_without_torch(tmp_path: Path) -> Callable[..., "list[dict[str, object]]"]:
    """A function of (bundle, clip, *keywords of `predict`) that answers each question in a process without torch."""

    def ask(bundle: Path, clip: Path, *questions: "dict[str, object]") -> "list[dict[str, object]]":
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, json.dumps([str(bundle), str(clip), questions])],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "", "GA2CLIP_CACHE": str(tmp_path / "cache")},
        )
        # To random weights with large prompts two class texts may be one; that the bundle says so is right.
        said = [line for line in done.stderr.splitlines() if "cannot tell these classes apart" not in line]
        assert (done.returncode, said) == (0, [])
        answers: list[dict[str, object]] = json.loads(done.stdout)
        return answers

    return ask


@pytest.fixture(scope="session")
def make_model(clip_file: Path) -> Callable[..., "object"]:
    """A function that makes a random model of a method on the random CLIP, with prompts large enough to matter."""
    import torch

    from ga2clip.model.load_backbone import load_backbone
    from ga2clip.model.methods import method_settings
    from ga2clip.model.video_clip import build_model
    from ga2clip.settings import Settings

    def make(method: str = "ga2", **changes: object) -> "object":
        tree = method_settings(method)
        short = {"text_length": 4, "vision_length": 4, "text_depth": 2, "vision_depth": 2}
        tree["method"] = {**short, **tree["method"], **changes}
        tree["backbone"] = {"pretrained": str(clip_file)}
        settings = Settings().updated(tree, "test")
        torch.manual_seed(1)
        backbone = load_backbone(settings.backbone)
        hard = torch.randn(4, backbone.text.width) * 0.3 if settings.method.coupling != "none" else None
        model = build_model(backbone, settings, CLASSES, hard)
        with torch.no_grad():
            for parameter in model.trainable_parameters().values():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., "object"]) -> "object":
    """A random GA2 model."""
    return make_model()


@pytest.fixture(scope="session")
def bundle(model: "object", tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Path:
    """The fp32 bundle of the random GA2 model, measured on built-in drawings."""
    from ga2clip_export.export import export_model
    from tests.traced_once import traced_once

    with traced_once(shared_folder):
        return export_model(model, tmp_path_factory.mktemp("bundles") / "fp32")
