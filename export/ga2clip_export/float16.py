"""Converts an ONNX file to float16; nodes that could overflow stay in float32.

Inputs and outputs keep their types. float16 ends at 65504 and loses precision below 6e-5, so two things stay in
float32: the patch convolution, whose weights are tiny because the pixel normalisation is folded into them, and every
node whose inputs or outputs came near the limit on real inputs. No tensor between two such nodes is converted to
float16 and back, which onnxruntime's own converter does not guarantee.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ga2clip_export.activations import float_tensors, largest_activations
from ga2clip_export.graphs import save

_LARGEST = float(np.finfo(np.float16).max)
_LIMIT = _LARGEST / 8  # a margin, since other inputs may give larger values than the measured ones


def to_float16(source: Path, target: Path, inputs: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Convert a file; returns the names of the nodes that stay in float32. inputs: real ones, to measure overflow."""
    model = onnx.load(str(source))
    large = {name for name, value in largest_activations(model, inputs).items() if value > _LIMIT}
    kept = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" or large & {*node.input, *node.output}
    ]
    conversion = _Conversion(model, set(kept))
    nodes = list(conversion.nodes())
    graph = model.graph
    tensors = list(conversion.constants())
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    save(model, target)
    return tuple(kept)


class _Conversion:
    """One pass over a graph. A float32 tensor `x` keeps its name, its float16 twin is `x_half`; casts are added."""

    def __init__(self, model: onnx.ModelProto, kept: set[str]) -> None:
        self._graph = model.graph
        self._kept = kept
        self._constants = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
        given = {i.name for i in model.graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats = float_tensors(model) | self._constants.keys() | given
        self._forms = given

    def nodes(self) -> Iterator[NodeProto]:
        """The nodes of the converted graph, in order."""
        for node in self._graph.node:
            half = not (node.name in self._kept or _makes_floats(node))
            for index, name in enumerate(node.input):
                if name in self._floats:
                    yield from self._provide(name, half)
                    node.input[index] = _name(name, half)
            for index, name in enumerate(node.output):
                if name in self._floats:
                    node.output[index] = _name(name, half)
                    self._forms.add(node.output[index])
            yield node
        for output in self._graph.output:
            yield from self._provide(output.name, half=False)

    def constants(self) -> Iterator[TensorProto]:
        """The initialisers, in the precisions that nodes need."""
        for tensor in self._graph.initializer:
            if tensor.name not in self._constants or tensor.name in self._forms:
                yield tensor
            if _name(tensor.name, True) in self._forms:
                values = np.clip(numpy_helper.to_array(tensor), -_LARGEST, _LARGEST)  # masks hold −3.4e38
                yield numpy_helper.from_array(values.astype(np.float16), _name(tensor.name, True))

    def _provide(self, name: str, half: bool) -> Iterator[NodeProto]:
        """A cast, unless the tensor already exists in this precision."""
        wanted, other = _name(name, half), _name(name, not half)
        if wanted not in self._forms and name not in self._constants:
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            yield helper.make_node("Cast", [other], [wanted], name=f"cast_{wanted}", to=kind)
        self._forms.add(wanted)


def _name(name: str, half: bool) -> str:
    return f"{name}_half" if half else name


def _makes_floats(node: NodeProto) -> bool:
    """Whether the output type of a node is given by its attributes."""
    return any(
        a.t.data_type == TensorProto.FLOAT or (a.name == "to" and a.i == TensorProto.FLOAT)
        for a in node.attribute
    )
