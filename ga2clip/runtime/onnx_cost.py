"""The cost of running an ONNX graph (output shapes, multiply-adds, peak bytes), computed without running it.

An engine keeps a tensor in memory from the node that makes it to the last node that reads it, so the peak depends on
the order of the nodes. Two orders are considered: that of the file, and that of ONNX Runtime, which walks back from
the outputs. Tensors that don't depend on an input are computed at load time and stay in memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ga2clip.runtime.onnx_scan import Graph, Node
from ga2clip.runtime.onnx_shapes import check_operator, checked_kind, evaluate, kinds
from ga2clip.runtime.onnx_values import GraphError, Result, Shape, Value

_PER_ELEMENT = 4
"""The cost of reading or writing one element, in multiply-adds."""


@dataclass(frozen=True)
class Cost:
    """outputs: their shapes by name. work: multiply-adds. peak: bytes of all tensors alive at once, without weights."""

    outputs: Mapping[str, Shape]
    work: int
    peak: int


@dataclass(frozen=True)
class _Step:
    node: Node
    made: Mapping[str, Value]
    scratch: int


def measure(graph: Graph, inputs: Mapping[str, Shape]) -> Cost:
    """The cost of one run on inputs of these shapes.

    Raises:
        GraphError: the graph cannot be run on these shapes, or uses something that a bundle may not contain.
    """
    values = {
        name: Value(constant.shape, checked_kind(constant.kind), constant.values, constant=True)
        for name, constant in graph.constants.items()
    }
    values |= {name: Value(inputs[name], checked_kind(entry.kind)) for name, entry in graph.inputs.items()}
    steps: list[_Step] = []
    work = 0
    for node in graph.nodes:
        try:
            check_operator(node)
            read = [values[name] for name in _given(node)]
            result = evaluate(node, read)
            made = _made(node, read, result)
        except KeyError as error:
            raise GraphError(f"a node reads {error}, which no node before it makes") from None
        except GraphError as error:
            raise GraphError(f"node {len(steps)} ({node.op:.40}): {error}") from None
        values |= made
        steps.append(_Step(node, made, 4 * result.scratch))
        touched = sum(value.size for value in (*read, *made.values()))
        work += result.work + _PER_ELEMENT * touched
    _check_declared(graph, values)
    if missing := graph.outputs.keys() - values.keys():
        raise GraphError(f"the output '{min(missing):.40}' is not made")
    orders = (steps, [steps[index] for index in _walked_back(graph.nodes)])
    peak = max(_peak(order, graph.outputs) for order in orders)
    return Cost({name: values[name].shape for name in graph.outputs}, work, peak)


def _given(node: Node) -> list[str]:
    """Names of a node's inputs, without omitted optional inputs at the end."""
    names = list(node.inputs)
    while names and not names[-1]:
        names.pop()
    return [name for name in names if name] if node.op == "Clip" else names


def _made(node: Node, read: Sequence[Value], result: Result) -> dict[str, Value]:
    constant = all(value.constant for value in read)
    tensors = zip(node.outputs, result.shapes, kinds(node, read), strict=True)
    return {name: Value(shape, kind, result.known, constant) for name, shape, kind in tensors if name}


def _check_declared(graph: Graph, values: Mapping[str, Value]) -> None:
    """Raises GraphError when a declared shape differs from the computed one: engines allocate by declared shapes."""
    for name, declared in (*graph.inside.items(), *graph.outputs.items()):
        shape = values[name].shape if name in values else None
        if shape is None or declared.shape is None:
            continue
        pairs = zip(declared.shape, shape, strict=False)
        if len(declared.shape) != len(shape) or any(said not in (None, is_) for said, is_ in pairs):
            raise GraphError(f"the tensor '{name:.40}' is declared {declared.shape} and becomes {shape}")


def _peak(steps: Iterable[_Step], outputs: Iterable[str]) -> int:
    """The largest number of bytes alive at once when the steps run in this order."""
    steps = list(steps)
    last = {name: index for index, step in enumerate(steps) for name in step.node.inputs}
    kept = set(outputs)
    sizes: dict[str, int] = {}
    alive = peak = 0
    for index, step in enumerate(steps):
        for name, value in step.made.items():
            alive += value.bytes
            if not value.constant and name not in kept:
                sizes[name] = value.bytes
        peak = max(peak, alive + step.scratch)
        for name in {*step.node.inputs, *step.made}:
            if last.get(name, index) <= index:
                alive -= sizes.pop(name, 0)
    return peak


def _walked_back(nodes: Sequence[Node]) -> Iterator[int]:
    """Indices of the nodes in depth-first order, starting at the nodes whose outputs no other node reads; later inputs
    first.
    """
    maker = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    reads = [sorted({maker[name] for name in node.inputs if name in maker}) for node in nodes]
    used = {index for inputs in reads for index in inputs}
    stack = [(index, False) for index in range(len(nodes)) if index not in used]
    seen: set[int] = set()
    while stack:
        index, leaving = stack.pop()
        if leaving:
            yield index
        elif index not in seen:
            seen.add(index)
            stack.append((index, True))
            stack += [(inner, False) for inner in reads[index] if inner not in seen]
