"""Converts an ONNX file to int8, and keeps those layers in float32 that would lose too much precision.

Matrix products with constant weights are quantised dynamically: activations unsigned 8 bit per tensor, weights signed
per column. CPUs with dot-product instructions are fast at this, and ONNX Runtime fuses the form used here into one
kernel. The token embedding, which is looked up and not multiplied, is stored in float16. If the caller's check fails,
the layers with the largest quantisation error return to float32, twice as many in each attempt.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ga2clip_export.activations import as_int7, quantisation_errors
from ga2clip_export.graphs import save

_log = logging.getLogger(__name__)

_TABLE_ROWS = 1024
"""Gather tables with at least this many rows are stored in float16."""


def to_int8(
    source: Path, target: Path, inputs: Mapping[str, np.ndarray], good_enough: Callable[[Path], bool]
) -> tuple[str, ...]:
    """Quantise an ONNX file.

    Args:
        source: the float32 file.
        target: the file to write.
        inputs: real inputs by name, on which the quantisation error of each layer is measured.
        good_enough: a check of the written file; the first version that passes is kept. If none passes, the last
            version is kept, with half of the layers in float32; the agreement check then decides about it.

    Returns:
        The names of the layers that stay in float32.
    """
    _quantise(source, target, set())
    if good_enough(target):
        return ()
    errors = quantisation_errors(onnx.load(str(source)), inputs)
    ranked = sorted(errors, key=lambda name: -errors[name])
    count = 1
    while True:
        kept = ranked[:count]
        _log.info("%s: %d of %d layers stay float32", source.name, count, len(ranked))
        _quantise(source, target, set(kept))
        if good_enough(target) or count >= len(ranked) // 2:
            return tuple(kept)
        count *= 2


def _quantise(source: Path, target: Path, floats: set[str]) -> None:
    model = onnx.load(str(source))
    graph = model.graph
    weights = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    made: dict[str, TensorProto] = {}
    nodes: list[NodeProto] = []
    quantised: set[str] = set()
    for node in graph.node:
        constant = node.input[1] if len(node.input) > 1 and node.input[1] in weights else ""
        if node.op_type == "MatMul" and constant and node.name not in floats:
            made |= _int7_weight(weights[constant])
            nodes += _integer_product(node, quantised)
        elif (
            node.op_type == "Gather"
            and node.input[0] in weights
            and weights[node.input[0]].dims[0] >= _TABLE_ROWS
        ):
            made |= _half_table(weights[node.input[0]])
            nodes += _looked_up(node)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    graph.initializer.extend(made.values())
    save(model, target)


def _integer_product(node: NodeProto, quantised: set[str]) -> Iterator[NodeProto]:
    """A MatMul as quantise → integer product → scale. An activation that several products use is quantised once."""
    x, weight, y = node.input[0], node.input[1], node.output[0]
    if x not in quantised:
        quantised.add(x)
        parts = [f"{x}_u8", f"{x}_scale", f"{x}_zero"]
        yield helper.make_node("DynamicQuantizeLinear", [x], parts, name=f"quantise_{x}")
    product = [f"{x}_u8", f"{weight}_s7", f"{x}_zero", f"{weight}_zero"]
    yield helper.make_node(
        "Mul", [f"{x}_scale", f"{weight}_scale"], [f"{y}_scale"], name=f"{node.name}_scale"
    )
    yield helper.make_node("MatMulInteger", product, [f"{y}_s32"], name=node.name)
    yield helper.make_node("Cast", [f"{y}_s32"], [f"{y}_sum"], name=f"{node.name}_cast", to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{y}_sum", f"{y}_scale"], [y], name=f"{node.name}_scaled")


def _int7_weight(tensor: TensorProto) -> dict[str, TensorProto]:
    values, scale = as_int7(numpy_helper.to_array(tensor))
    zero = np.zeros(scale.shape, np.int8)
    named = {"_s7": values, "_scale": scale, "_zero": zero}
    return {
        tensor.name + end: numpy_helper.from_array(part, tensor.name + end) for end, part in named.items()
    }


def _half_table(tensor: TensorProto) -> dict[str, TensorProto]:
    name = f"{tensor.name}_half"
    return {name: numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)}


def _looked_up(node: NodeProto) -> Iterator[NodeProto]:
    table, rows = f"{node.input[0]}_half", f"{node.output[0]}_half"
    yield helper.make_node("Gather", [table, node.input[1]], [rows], name=node.name, axis=0)
    yield helper.make_node("Cast", [rows], [node.output[0]], name=f"{node.name}_cast", to=TensorProto.FLOAT)
