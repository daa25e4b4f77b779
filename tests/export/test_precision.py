"""Halves that do not overflow, int8 that does not saturate, and layers that go back to float when it is measured."""

import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ga2clip.errors import UserError
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.engine import open_engine
from ga2clip_export import calibration_clips, encoders, graphs, quantise, verify
from ga2clip_export.activations import largest_activations, quantisation_errors
from ga2clip_export.export import export_model
from ga2clip_export.float16 import to_float16
from ga2clip_export.quantise import to_int8


@pytest.fixture(scope="module")
def expected(model) -> verify.Reference:
    return verify.reference(model, calibration_clips.built_in(model.preprocess, 4, 6), placeholder=343)


def chain(scales: list[float]) -> onnx.ModelProto:
    """x (N, 4) → … → y: multiplications by constants, one node each, named step0, step1, …"""
    nodes, constants, last = [], [], "x"
    for index, scale in enumerate(scales):
        constants.append(numpy_helper.from_array(np.float32([scale] * 4), f"c{index}"))
        out = "y" if index == len(scales) - 1 else f"h{index}"
        nodes.append(helper.make_node("Mul", [last, f"c{index}"], [out], name=f"step{index}"))
        last = out
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = helper.make_graph(nodes, "chain", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_what_would_overflow_stays_float_and_neighbours_do_not_pass_through_a_half(tmp_path: Path) -> None:
    model = chain([2.0, 1e6, 3.0, 1e-7, 0.5])
    onnx.save(model, str(tmp_path / "float.onnx"))
    x = {"x": np.float32([[1, 2, 3, 4]])}
    kept = to_float16(tmp_path / "float.onnx", tmp_path / "half.onnx", x)
    assert kept == ("step1", "step2", "step3")
    converted = onnx.load(str(tmp_path / "half.onnx"))
    onnx.checker.check_model(converted, full_check=True)
    stored = {t.name: t.data_type for t in converted.graph.initializer}
    assert stored == {"c0_half": 10, "c1": 1, "c2": 1, "c3": 1, "c4_half": 10}
    found = open_engine(tmp_path / "half.onnx", "cpu").run(x)["y"]
    np.testing.assert_allclose(found, x["x"] * 2.0 * 1e6 * 3.0 * 1e-7 * 0.5, rtol=2e-3)


def test_half_encoders_agree_and_are_half_the_size(bundle, expected, tmp_path) -> None:
    for name, inputs in [("video", {"frames": expected.clips[:1]}), ("text", {"ids": expected.ids[0][None]})]:
        source, target = bundle / f"{name}_encoder.onnx", tmp_path / f"{name}.onnx"
        kept = to_float16(source, target, inputs)
        assert target.stat().st_size < 0.6 * source.stat().st_size
        assert all("conv" in node for node in kept)
        onnx.checker.check_model(onnx.load(str(target)), full_check=True)
    assert (
        verify.video_agreement(open_engine(tmp_path / "video.onnx", "cpu"), None, expected, static=False)[0]
        > 0.9999
    )
    assert verify.text_cosine(open_engine(tmp_path / "text.onnx", "cpu"), expected) > 0.9999


def test_int8_agrees_on_this_cpu_whatever_its_instructions(bundle, expected, tmp_path) -> None:
    """With 8-bit weights this fails on CPUs without VNNI: pairs of products saturate at 16 bits."""
    source, target = bundle / "video_encoder.onnx", tmp_path / "video.onnx"
    assert to_int8(source, target, {"frames": expected.clips[:1]}, lambda path: True) == ()
    graph = onnx.load(str(source)).graph
    constants = {tensor.name for tensor in graph.initializer}
    by_weights = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    kinds = [node.op_type for node in onnx.load(str(target)).graph.node]
    assert kinds.count("MatMulInteger") == len(by_weights) > 0
    weights = [
        numpy_helper.to_array(t)
        for t in onnx.load(str(target)).graph.initializer
        if t.data_type == TensorProto.INT8
    ]
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == 64
    assert verify.video_agreement(open_engine(target, "cpu"), None, expected, static=False)[0] > 0.999


def test_the_worst_layers_go_back_to_float_until_it_is_good_enough(bundle, expected, tmp_path) -> None:
    source, target = bundle / "video_encoder.onnx", tmp_path / "video.onnx"
    inputs = {"frames": expected.clips[:1]}
    looks = []
    kept = to_int8(source, target, inputs, lambda path: looks.append(path) or len(looks) == 4)
    errors = quantisation_errors(onnx.load(str(source)), inputs)
    assert kept == tuple(sorted(errors, key=lambda name: -errors[name])[:4])
    floats = {node.name for node in onnx.load(str(target)).graph.node if node.op_type == "MatMul"}
    assert set(kept) <= floats


@pytest.mark.slow
def test_int8_that_no_choice_of_layers_saves_leaves_nothing(model, tmp_path, monkeypatch) -> None:
    def lost(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(weight.shape, np.int8), np.ones(weight.shape[1], np.float32)

    monkeypatch.setattr(quantise, "as_int7", lost)
    with pytest.raises(UserError, match=r"int8 export does not agree with torch.*video_features") as caught:
        export_model(model, tmp_path / "out" / "bundle", precision="int8")
    assert "--precision fp32" in caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_quantisation_error_finds_the_layer_with_outliers(tmp_path) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(8, 8)).astype(np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], name="calm"),
        helper.make_node("Mul", ["h", "outlier"], ["k"], name="stretch"),
        helper.make_node("MatMul", ["k", "w1"], ["y"], name="wild"),
    ]
    outlier = np.ones(8, np.float32)
    outlier[3] = 300
    constants = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    constants.append(numpy_helper.from_array(outlier, "outlier"))
    weights[1][3] = 0
    constants[1] = numpy_helper.from_array(weights[1], "w1")  # the outlier channel is not even used
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    inputs = {"x": rng.normal(size=(50, 8)).astype(np.float32)}
    errors = quantisation_errors(model, inputs)
    assert errors["wild"] > 10 * errors["calm"]
    assert largest_activations(model, inputs)["k"] > 100


def test_weights_beyond_one_file_are_written_once_and_looked_into(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(graphs, "_MOST_INSIDE", 1000)
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(64, 8)).astype(np.float32), "w")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", k]) for name, k in (("x", 64), ("y", 8))
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Abs", ["h"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weight]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    for _ in range(2):
        graphs.save(model, tmp_path / "m.onnx")
        beside = (tmp_path / "m.onnx.data").stat()
        assert beside.st_size < 1.5 * 64 * 8 * 4
        assert beside.st_mode == (tmp_path / "m.onnx").stat().st_mode
        model = onnx.load(str(tmp_path / "m.onnx"))
    inputs = {"x": rng.normal(size=(3, 64)).astype(np.float32)}
    found = open_engine(tmp_path / "m.onnx", "cpu").run(inputs)["y"]
    assert largest_activations(model, inputs) == pytest.approx({"h": found.max(), "y": found.max()})
    assert quantisation_errors(model, inputs)["product"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_bundle_whose_weights_lie_beside_the_graphs(model, tmp_path, monkeypatch, precision) -> None:
    monkeypatch.setattr(graphs, "_MOST_INSIDE", 20_000)
    monkeypatch.setattr(graphs, "_LARGEST_FILE", 20_000)
    out = export_model(model, tmp_path / "bundle", precision=precision)
    data = [path for path in out.iterdir() if path.suffix == ".data"]
    assert {path.name for path in data} == {"video_encoder.onnx.data", "text_encoder.onnx.data"}
    assert all(path.name in open_bundle(out).card.files for path in data)
    floats = sum(p.numel() * p.element_size() for p in model.backbone.parameters())
    assert (
        sum(path.stat().st_size for path in data)
        < {"fp32": 1.1, "fp16": 0.6, "int8": 0.6}[precision] * floats
    )
    with Predictor(out, provider="cpu", cache=False) as predictor:
        predictor.predict_frames(np.zeros((2, 16, 16, 3), np.uint8), ["a new class"])
    (out / "video_encoder.onnx.data").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"video_encoder\.onnx\.data"):
        Predictor(out, provider="cpu")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
def test_every_file_of_a_bundle_has_the_permissions_of_the_umask(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(graphs, "_MOST_INSIDE", 20_000)
    before = os.umask(0o027)
    try:
        out = export_model(model, tmp_path / "bundle")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert {"video_encoder.onnx.data", "text_encoder.onnx.data", "bundle.json"} <= modes.keys()
    assert set(modes.values()) == {0o640}
    assert stat.S_IMODE(out.stat().st_mode) == 0o750


@pytest.mark.parametrize("has_cuda", [False, True])
def test_auto_falls_back_to_fp32_and_says_why(
    monkeypatch, caplog, has_cuda, model, expected, tmp_path
) -> None:
    tried = []

    def write(model, folder, expected, precision, opset, static):
        tried.append(precision)
        if precision != "fp32":
            raise UserError(f"the {precision} export does not agree")
        return "fp32"

    monkeypatch.setattr(encoders, "_write", write)
    monkeypatch.setattr(encoders, "has_cuda", lambda: has_cuda)
    found = encoders.write_encoders(model, tmp_path, expected, precision="auto", opset=None, static=False)
    assert found == "fp32"
    assert tried == ["fp16" if has_cuda else "int8", "fp32"]
    assert "does not agree" in caplog.text


def test_an_opset_without_the_operators_is_refused(model, expected, tmp_path) -> None:
    with pytest.raises(UserError, match="opset 17 is too old"):
        encoders.write_encoders(model, tmp_path, expected, precision="fp32", opset=17, static=False)
