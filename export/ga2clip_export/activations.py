"""Activations of a graph on real inputs: their ranges (for float16) and quantisation errors (for int8)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from ga2clip.runtime.ort import onnxruntime
from ga2clip_export.graphs import save, tensor_bytes

_U8_LEVELS, _S7_LARGEST = 255, 64
_SHAPE_BYTES = 1024  # smaller constants may be shapes
_MASK = 1e30  # far above any activation; masks hold −3.4e38 or −∞


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 tensors that are outputs of nodes."""
    inferred = onnx.shape_inference.infer_shapes(_without_weights(model))
    known = (*inferred.graph.value_info, *inferred.graph.output)
    floats = {v.name for v in known if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return floats & {name for node in model.graph.node for name in node.output}


def largest_activations(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest absolute value of every computed float tensor, by name; the values of masks don't count."""
    values = _run_inside(model, sorted(float_tensors(model)), inputs)
    return {name: float(np.abs(v[np.abs(v) < _MASK]).max(initial=0.0)) for name, v in values.items()}


def quantisation_errors(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The relative error ‖quantised − exact‖ / ‖exact‖ of the output of each MatMul with constant weights, by name.

    Measured on these inputs with the arithmetic of dynamic quantisation: activations unsigned 8 bit per tensor, weights
    signed 7 bit per column.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    values = _run_inside(model, sorted({node.input[0] for node in nodes}), inputs)
    errors = {}
    for node in nodes:
        weight = onnx.numpy_helper.to_array(weights[node.input[1]])
        exact = values[node.input[0]] @ weight
        coarse = _as_u8(values[node.input[0]]) @ _as_s7(weight)
        errors[node.name] = float(np.linalg.norm(coarse - exact) / max(float(np.linalg.norm(exact)), 1e-12))
    return errors


def _as_u8(x: np.ndarray) -> np.ndarray:
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = max(high - low, 1e-12) / _U8_LEVELS
    zero = round(-low / step)
    return ((np.clip(np.round(x / step) + zero, 0, _U8_LEVELS) - zero) * step).astype(np.float32)


def as_int7(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A weight (K, M) as int8 (K, M) from −64 to 64 and float32 scales (M,) of its columns.

    7 of the 8 bits: x86 CPUs without VNNI (AVX2, AVX-512 before it) add pairs of 8-bit products in 16 bits
    and saturate with larger weights, so that a bundle verified on one machine would be wrong on another; 2 ·
    255 · 64 fits.
    """
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / _S7_LARGEST
    return np.round(weight / scale).astype(np.int8), scale.astype(np.float32)


def _as_s7(weight: np.ndarray) -> np.ndarray:
    values, scale = as_int7(weight)
    return values * scale


def _run_inside(
    model: onnx.ModelProto, names: Sequence[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Values of tensors inside the graph."""
    outputs = {output.name for output in model.graph.output}
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    # Fusions would remove the requested tensors.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with TemporaryDirectory() as folder:
        path = Path(folder) / "opened.onnx"
        save(opened, path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(list(names), dict(inputs)), strict=True))


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that keeps types and shapes: shape inference takes no more than 2 GB."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if tensor_bytes(tensor) > _SHAPE_BYTES:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="left out")
    return light
