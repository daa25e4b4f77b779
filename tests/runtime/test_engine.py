"""Engines say what they miss on stderr: stdout is for results."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import ga2clip
from ga2clip.errors import UserError
from ga2clip.runtime.engine import open_engine
from ga2clip.runtime.ort import onnxruntime


def test_onnx_runtime_prints_nothing_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Session:
        """Falls back as ONNX Runtime does where a GPU library is missing: with `print`."""

        def __init__(self, *_: object, **__: object) -> None:
            print("*************** EP Error ***************")

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

        def get_outputs(self) -> list[object]:
            return []

        def run(self, names: list[str], inputs: Mapping[str, object]) -> list[object]:
            return []

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert open_engine(Path("model.onnx"), "cpu").provider == "cpu"
    said = capsys.readouterr()
    assert said.out == ""
    assert "EP Error" in said.err


def test_a_graph_that_loads_beside_gives_the_same_error_at_its_first_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot load") as at_once:
        open_engine(path, "cpu")
    engine = open_engine(path, "cpu", wait=False)
    for _ in range(2):
        with pytest.raises(UserError) as later:
            engine.run({"x": np.zeros(1)})
        assert (later.value.message, later.value.hint) == (at_once.value.message, at_once.value.hint)


def test_a_graph_that_loads_beside_answers_the_same() -> None:
    path = Path(ga2clip.__file__).parent / "assets" / "tiny" / "bundle" / "video_encoder.onnx"
    frames = {"frames": np.random.default_rng(0).integers(0, 256, (1, 2, 72, 72, 3), np.uint8)}
    waited, beside = (open_engine(path, "cpu", threads=1, wait=wait) for wait in (True, False))
    assert (waited.provider, beside.provider) == ("cpu", "cpu")
    first, second = waited.run(frames), beside.run(frames)
    assert first.keys() == second.keys() == {"frame_features", "video_features"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
