"""Engines say what they miss on stderr: stdout is for results."""

from collections.abc import Mapping
from pathlib import Path

import pytest

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
