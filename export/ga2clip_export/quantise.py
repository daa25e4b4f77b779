"""Conversion of an ONNX file to int8, layers chosen by the disagreement that is measured.

Matrix products with constant weights become dynamic 8 bit: activations unsigned over the whole tensor,
weights signed and per column, which is what CPUs with dot-product instructions are fast at, in the form that
ONNX Runtime fuses into one kernel. The token table, which is looked up and not multiplied, is stored in
halves. The layers with the largest quantisation error go back to float32, twice as many each time, until the
caller is content with what it measures.
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
"""From so many rows on, what a Gather looks up is stored in halves."""


def to_int8(
    source: Path, target: Path, inputs: Mapping[str, np.ndarray], good_enough: Callable[[Path], bool]
) -> tuple[str, ...]:
    """Quantise `source` into `target`. Returns the names of the layers that stay float32.

    inputs: real ones, on which layers are ranked. good_enough: looks at the written file; the first that
    pleases it stays. When none does, the last one, half of whose layers are float32, stays: the gate has the
    last word.
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
    """A MatMul as quantise → integer product → scale; an activation that several products share is quantised
    once.
    """
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
