"""Graphs with matching hashes that would run for ever or take all memory are refused before an engine loads them."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ga2clip.errors import UserError
from ga2clip.files import file_sha256
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.onnx_cost import measure
from ga2clip.runtime.onnx_scan import Node, read_graph
from ga2clip.runtime.onnx_shapes import evaluate, kinds
from ga2clip.runtime.onnx_values import Value

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Edit = Callable[[onnx.ModelProto], None]


def forge(bundle: Path, folder: Path, edit: Edit, name: str = "video_encoder.onnx") -> Path:
    """A copy of the bundle whose graph was edited and hashed again."""
    copy = folder / "forged"
    shutil.copytree(bundle, copy)
    model = onnx.load(str(copy / name))
    edit(model)
    onnx.save(model, str(copy / name))
    rehash(copy, name)
    return copy


def rehash(folder: Path, name: str) -> None:
    path = folder / name
    card = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    card["files"][name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    (folder / "bundle.json").write_text(json.dumps(card), encoding="utf-8")


def use(folder: Path) -> np.ndarray:
    with Predictor(folder, provider="cpu", threads=1, cache=False) as predictor:
        return predictor.encode_clips(np.zeros((1, 2, 8, 8, 3), np.uint8))


def constant(model: onnx.ModelProto, name: str, values: object) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def before_frames(*nodes: onnx.NodeProto, constants: dict[str, object] | None = None) -> Edit:
    """An edit that puts nodes first; the last one's `bomb` (…) enters the frame features through its minimum."""

    def edit(model: onnx.ModelProto) -> None:
        for name, values in (constants or {}).items():
            constant(model, name, values)
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *rest])

    return edit


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def doubling(times: int) -> list[onnx.NodeProto]:
    """x → x beside x, and so on: 2^times."""
    return [node("Concat", f"d{i} d{i}", f"d{i + 1}", axis=0) for i in range(times)]


BODY = helper.make_graph(
    [node("Identity", "go", "more")],
    "body",
    [
        helper.make_tensor_value_info("n", INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
    ],
    [helper.make_tensor_value_info("more", TensorProto.BOOL, [])],
)
TRUE = np.array(True)
IMAGE = (node("Cast", "frames", "pixels_", to=FLOAT), node("Reshape", "pixels_ nchw", "image"))

HOSTILE: dict[str, tuple[Edit, str]] = {
    "a loop of 2^62 rounds": (
        before_frames(
            helper.make_node("Loop", ["rounds", "go"], [], body=BODY),
            constants={"rounds": np.array(2**62), "go": TRUE},
        ),
        "attribute with field 6",
    ),
    "15000^3 zeros": (
        before_frames(node("ConstantOfShape", "side", "bomb"), constants={"side": [15_000] * 3}),
        "'ConstantOfShape'",
    ),
    "15000^3 by broadcasting": (
        before_frames(
            node("Expand", "seed side", "bomb"),
            constants={"seed": np.float32([1]), "side": [15_000] * 3},
        ),
        "GiB",
    ),
    "a range of 2^40": (
        before_frames(
            node("Range", "zero end step", "bomb"),
            constants={"zero": np.array(0), "end": np.array(2**40), "step": np.array(1)},
        ),
        "GiB",
    ),
    "a range of 2^63": (
        before_frames(
            node("Range", "start end step", "bomb"),
            constants={"start": np.array(-(2**63)), "end": np.array(2**63 - 1), "step": np.array(1)},
        ),
        "GiB",
    ),
    "doubling": (before_frames(*doubling(40), constants={"d0": np.zeros(64, np.float32)}), "GiB"),
    "an outer sum": (
        before_frames(
            node("Reshape", "wide row", "a"),
            node("Reshape", "wide column", "b"),
            node("Add", "a b", "bomb"),
            constants={
                "wide": np.zeros(30_000, np.float32),
                "row": [1, -1],
                "column": [-1, 1],
            },
        ),
        "GiB",
    ),
    "an outer product": (
        before_frames(
            node("Expand", "seed tall", "a"),
            node("Expand", "seed flat_", "b"),
            node("MatMul", "a b", "bomb"),
            constants={"seed": np.float32([[1]]), "tall": [40_000, 1], "flat_": [1, 40_000]},
        ),
        "GiB",
    ),
    "a product that takes an hour": (
        before_frames(
            node("Expand", "seed side", "m0"),
            *[node("MatMul", f"m{i} m{i}", f"m{i + 1}") for i in range(12)],
            constants={"seed": np.float32([[1]]), "side": [5_000, 5_000]},
        ),
        "products",
    ),
    "tables that stay since nothing enters them": (
        before_frames(
            *[node("Expand", f"seed{i} side", f"kept{i}") for i in range(40)],
            constants={f"seed{i}": np.float32([i]) for i in range(40)} | {"side": [8_000, 8_000 // 4]},
        ),
        "GiB",
    ),
    "a table that grows with the square of the batch": (
        before_frames(
            node("Shape", "frames", "batch", end=1),
            node("Mul", "batch million", "many"),
            node("Mul", "many batch", "more"),
            node("Mul", "more batch", "most"),
            node("Expand", "seed most", "bomb"),
            constants={"seed": np.float32([1]), "million": [200_000_000]},
        ),
        "products",
    ),
    "an integer division that stops the process": (
        before_frames(
            node("Cast", "frames", "numbers", to=INT64),
            node("Sub", "numbers numbers", "zeros"),
            node("Add", "zeros smallest", "smallests"),
            node("Div", "smallests minus_one", "bomb"),
            constants={"smallest": np.array(-(2**63)), "minus_one": np.array(-1)},
        ),
        "node 3 (Div): it computes with integers",
    ),
    "integer powers": (
        before_frames(
            node("Cast", "frames", "numbers", to=INT64),
            node("Pow", "numbers numbers", "bomb"),
        ),
        "node 1 (Pow): it computes with integers",
    ),
    "a maximum of bytes": (before_frames(node("ReduceMax", "frames one", "bomb")), "integers"),
    "a convolution of which most is padding": (
        before_frames(
            *IMAGE,
            node("Conv", "image filter", "bomb", pads=[2000] * 4, strides=[1, 1]),
            constants={"nchw": [-1, 3, 8, 8], "filter": np.ones((16, 3, 1, 1), np.float32)},
        ),
        "padding (2000, 2000, 2000, 2000) is not read",
    ),
    "a convolution in groups that do not cover the channels": (
        before_frames(
            *IMAGE,
            node("Conv", "image filter", "bomb", strides=[4, 4], group=3),
            constants={"nchw": [-1, 3, 8, 8], "filter": np.ones((48, 2, 4, 4), np.float32)},
        ),
        "is not read",
    ),
    "a convolution in no groups": (
        before_frames(
            *IMAGE,
            node("Conv", "image filter", "bomb", group=0),
            constants={"nchw": [-1, 3, 8, 8], "filter": np.ones((48, 3, 4, 4), np.float32)},
        ),
        "is not read",
    ),
    "a convolution without strides": (
        before_frames(
            *IMAGE,
            node("Conv", "image filter", "bomb", strides=[0, 0]),
            constants={"nchw": [-1, 3, 8, 8], "filter": np.ones((48, 3, 4, 4), np.float32)},
        ),
        "strides (0, 0)",
    ),
    "a batch normalisation of fewer channels": (
        before_frames(
            *IMAGE,
            node("BatchNormalization", "image two two two two", "bomb"),
            constants={"nchw": [-1, 3, 8, 8], "two": np.ones(2, np.float32)},
        ),
        "a batch normalisation of",
    ),
    "a window that is larger than the image": (
        before_frames(
            *IMAGE,
            node("AveragePool", "image", "bomb", kernel_shape=[9, 9]),
            constants={"nchw": [-1, 3, 8, 8]},
        ),
        "is larger than",
    ),
    "attention without a head": (
        before_frames(
            node("Attention", "empty empty empty", "bomb"),
            constants={"empty": np.zeros((1, 0, 4, 4), np.float32)},
        ),
        "an empty tensor",
    ),
    "a mean of nothing": (
        before_frames(
            node("ReduceMean", "empty one", "bomb"), constants={"empty": np.zeros((2, 0), np.float32)}
        ),
        "an empty tensor",
    ),
    "a resize": (
        before_frames(
            helper.make_node("Resize", ["x_", "", "", "side"], ["bomb"]),
            constants={"x_": np.zeros((1, 1, 2, 2), np.float32), "side": [1, 1, 60_000, 60_000]},
        ),
        "'Resize'",
    ),
    "a size that depends on the pixels": (
        before_frames(
            node("Cast", "frames", "numbers", to=INT64),
            node("Reshape", "numbers all", "long"),
            node("Expand", "seed long", "bomb"),
            constants={"seed": np.float32([1]), "all": [-1]},
        ),
        "only known while the graph runs",
    ),
    "an operator of another domain": (
        lambda model: model.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        "com.microsoft",
    ),
    "a function": (
        lambda model: model.functions.append(
            helper.make_function("own", "f", ["a"], ["b"], [node("Identity", "a", "b")], model.opset_import)
        ),
        "field 25",
    ),
    "a constant that claims more than it holds": (
        lambda model: model.graph.initializer.append(
            onnx.TensorProto(name="huge", data_type=FLOAT, dims=[15_000] * 3, raw_data=b"0000")
        ),
        "bytes of values",
    ),
    "a declared size that is not the real one": (
        lambda model: model.graph.value_info.append(
            helper.make_tensor_value_info("rows", FLOAT, [15_000, 15_000, 15_000])
        ),
        "declared",
    ),
    "too many nodes": (
        before_frames(
            *[node("Identity", f"i{i}", f"i{i + 1}") for i in range(10_001)],
            constants={"i0": np.float32([1])},
        ),
        "more than 10000 nodes",
    ),
    "an output of another name": (
        lambda model: setattr(model.graph.output[0], "name", "rows"),
        "outputs",
    ),
    "an output of another type": (
        lambda model: setattr(model.graph.output[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
        "outputs",
    ),
    "an output of another width": (
        lambda model: model.graph.node[2].input.__setitem__(1, constant(model, "wide", np.zeros((192, 5)))),
        "5",
    ),
    "a node that reads what a later one makes": (
        lambda model: model.graph.node.insert(0, node("Identity", "rows", "early")),
        "no node before it",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_graph_without_bounds_is_refused_before_it_is_loaded(
    handmade: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, reason = HOSTILE[kind]
    forged = forge(handmade, tmp_path, edit)
    monkeypatch.setattr("ga2clip.runtime.bundle.open_engine", lambda *a, **k: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match=r"video_encoder\.onnx") as caught:
        use(forged)
    assert reason in caught.value.message


def test_the_honest_bundle_passes_and_its_shapes_are_those_that_onnx_runtime_gives(handmade: Path) -> None:
    open_bundle(handmade).verify()
    assert use(handmade).shape == (1, 4)
    cost = measure(read_graph(handmade / "video_encoder.onnx"), {"frames": (3, 5, 8, 8, 3)})
    assert cost.outputs == {"frame_features": (3, 5, 4), "video_features": (3, 4)}
    # MatMul: 3·5 rows of 192 into 4; each element read or written counts four.
    touched = 2 * 2880 + (2880 + 3 + 2880) + (2880 + 768 + 60) + (60 + 1 + 12)
    assert cost.work == 15 * 192 * 4 + 4 * touched
    assert cost.peak == 4 * (2 * 2880)  # float pixels and their rows, side by side


def test_a_large_batch_is_run_in_parts_with_the_same_answer(
    handmade: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = np.random.default_rng(1).integers(0, 256, (5, 2, 8, 8, 3), dtype=np.uint8)
    with Predictor(handmade, provider="cpu", threads=1, cache=False) as predictor:
        whole = predictor.encode_clips(clips)
        monkeypatch.setattr("ga2clip.runtime.guarded._MOST_BYTES", 5000)  # two clips take more
        assert np.array_equal(predictor.encode_clips(clips), whole)


def test_what_an_engine_returns_is_compared_with_what_was_measured(
    handmade: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Liar:
        provider = "cpu"

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"frame_features": np.zeros((1, 2, 4)), "video_features": np.zeros((1, 4), np.float32)}

    monkeypatch.setattr("ga2clip.runtime.bundle.open_engine", lambda *a, **k: Liar())
    with pytest.raises(UserError, match="float64"):
        use(handmade)


def test_convolutions_and_pools_have_the_sizes_that_torch_gives_them() -> None:
    torch = pytest.importorskip("torch")
    x, image = torch.zeros(2, 6, 11, 8), Value((2, 6, 11, 8), FLOAT)
    kinds_of = ((4, 3, 2, 1, 2), (6, 7, 1, 3, 6), (1, 1, 1, 0, 1), (8, 2, 3, 0, 1))
    for channels, kernel, stride, padding, groups in kinds_of:
        moved = {"strides": (stride,) * 2, "pads": (padding,) * 4}
        layer = torch.nn.Conv2d(6, channels, kernel, stride, padding, groups=groups)
        weight = Value(tuple(layer.weight.shape), FLOAT)
        found = evaluate(Node("Conv", ("x", "w"), ("y",), {**moved, "group": groups}), [image, weight])
        expected = tuple(layer(x).shape)
        assert found.shapes == (expected,)
        assert found.work == math.prod(expected) * (6 // groups) * kernel**2
        sides = math.prod(expected[2:])
        blocks = 2 * (10 * 88 + -channels % 16 * sides)  # engines store few channels as 16
        assert found.scratch == sides * (6 // groups) * kernel**2 + blocks
        pool = torch.nn.AvgPool2d(kernel, stride, padding)
        found = evaluate(
            Node("AveragePool", ("x",), ("y",), {**moved, "kernel_shape": (kernel,) * 2}), [image]
        )
        assert found.shapes == (tuple(pool(x).shape),)


def test_a_patch_embedding_costs_what_its_patches_do() -> None:
    patches = Node("Conv", ("image", "filter"), ("patches",), {"strides": (4, 4), "kernel_shape": (4, 4)})
    result = evaluate(patches, [Value((5, 3, 11, 8), FLOAT), Value((32, 3, 4, 4), FLOAT)])
    assert result.shapes == ((5, 32, 2, 2),)
    assert result.work == 5 * 32 * 4 * 48
    assert result.scratch == 4 * 48 + 5 * 13 * 88  # the patches of an image as rows; 3 channels become 16
    assert kinds(patches, [Value((5, 3, 11, 8), TensorProto.FLOAT16)]) == (TensorProto.FLOAT16,)
