"""Engines say what they miss on stderr: stdout is for results. OpenVINO quantises int8 products in its own way."""

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

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


def test_float32_is_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    class Session:
        """An ONNX Runtime that loads CUDA but not TensorRT."""

        def __init__(self, *_: object, providers: list[tuple[str, dict[str, str]]], **__: object) -> None:
            opened.append(providers[0])
            if providers[0][0] == "TensorrtExecutionProvider":
                raise RuntimeError("libnvinfer.so.10: cannot open shared object file")

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    known = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    cuda = "CUDAExecutionProvider"
    assert open_engine(Path("model.onnx"), "cuda").provider == "cuda"
    assert open_engine(Path("model.onnx"), "cuda:1").provider == "cuda:1"
    assert open_engine(Path("model.onnx"), "tensorrt").provider == "cuda"
    assert [entry for entry in opened if entry[0] == cuda] == [
        (cuda, {"use_tf32": "0"}),
        (cuda, {"device_id": "1", "use_tf32": "0"}),
        (cuda, {"use_tf32": "0"}),
    ]


def int8_product(path: Path, weights: np.ndarray, zeros: np.ndarray, scales: np.ndarray) -> Path:
    """A product x (batch, rows, K) → y (batch, rows, M) as int8 bundles have it; weights int8 (K, M), others (M,)."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x_u8", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["x_u8", "weights", "x_zero", "zeros"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["float_sum"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x_scale", "scales"], ["scale"]),
        helper.make_node("Mul", ["float_sum", "scale"], ["y"]),
    ]
    constants = {"weights": weights, "zeros": zeros, "scales": scales}
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "rows", width])
        for name, width in zip("xy", weights.shape, strict=True)
    )
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initial)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.mark.parametrize("zero", [0, 9])  # bundles have 0; what others may have is to be right as well
def test_openvino_gives_each_row_of_an_int8_product_scales_of_its_own(zero: int, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    weights = rng.integers(-64, 65, (512, 48)).astype(np.int8)
    zeros = rng.integers(-zero, zero + 1, 48).astype(np.int8)
    scales = np.linspace(0.01, 0.03, 48, dtype=np.float32)
    path = int8_product(tmp_path / "product.onnx", weights, zeros, scales)
    rows = rng.normal(size=(1, 5, 512)).astype(np.float32)
    rows[0, 0] *= 1e4  # with one scale for all rows, nothing is left of the others
    exact = rows @ ((weights.astype(np.float32) - zeros) * scales)
    engines = [open_engine(path, provider, threads=1) for provider in ("openvino", "cpu")]
    theirs, ours = (
        np.linalg.norm(engine.run({"x": rows})["y"] - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        for engine in engines
    )
    assert theirs.max() < 0.02
    assert ours[0, 0] < 0.02
    assert ours[0, 1:].min() > 0.5
    if platform.machine().lower() in ("x86_64", "amd64"):  # others compute it in other ways
        inside = engines[0]._model.get_runtime_model().get_ops()
        products = [op for op in inside if op.get_rt_info()["layerType"].astype(str) == "FullyConnected"]
        assert [op.input(1).get_element_type() for op in products] == [openvino.Type.i8]


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
