"""Reads the graph of an untrusted ONNX file, without the `onnx` package.

`read_graph` walks the protobuf (onnx.proto3 gives the field numbers) and returns nodes, constants and the declared
inputs and outputs. Only what our own exports contain is accepted: a graph of standard operators over dense tensors.
Functions, graphs inside attributes (the bodies of `Loop` and `If`), training graphs, sparse tensors and unknown fields
are refused, so that ONNX Runtime never loads anything that was not checked. Large constants are skipped by length.
"""

import math
import mmap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.protobuf import MalformedError, Message, numbers

MOST_NODES = 10_000
"""A CLIP of 48 blocks in int8 has about 3,500."""
_MOST_CONSTANTS = 50_000
_OPSETS = range(18, 27)
_VALUE_BYTES = 8 * 64  # larger tensors are not shapes, so their values are not needed here

ITEM_BYTES = {1: 4, 2: 1, 3: 1, 5: 2, 4: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of an element by TensorProto.DataType: float, (u)int8, (u)int16, int32, int64, bool, half, double, …"""
INT64 = 7
Attribute = int | tuple[int, ...] | str | None


@dataclass(frozen=True)
class Declared:
    """A tensor that the graph declares: its element type (TensorProto.DataType) and shape, None for any length."""

    kind: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Constant:
    """An initialiser. values: int64, only for small tensors that may be shapes; external: the file with its data."""

    kind: int
    shape: tuple[int, ...]
    values: np.ndarray | None
    external: str | None

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the values."""
        return self.size * ITEM_BYTES[self.kind]


@dataclass(frozen=True)
class Node:
    """One operator. attributes: integers, lists of integers and strings by name; floats are left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass
class Graph:
    """What an ONNX file holds."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    inputs: dict[str, Declared] = field(default_factory=dict)
    outputs: dict[str, Declared] = field(default_factory=dict)
    inside: dict[str, Declared] = field(default_factory=dict)
    """The declared types and shapes of tensors between nodes."""

    @property
    def weights(self) -> int:
        """Elements of all constants."""
        return sum(constant.size for constant in self.constants.values())


def external_files(path: Path) -> set[str]:
    """Names of the external files that hold weights of the model. Raises UserError as `read_graph`."""
    return {constant.external for constant in read_graph(path).constants.values() if constant.external}


def read_graph(path: Path) -> Graph:
    """The graph in an ONNX file.

    Raises:
        UserError: the file is not a complete protobuf message, or contains something that our exports never do.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file can't be mapped
            raise UserError(f"{path} is empty", "export the bundle again") from None
        with content:
            try:
                return _model(Message(content))
            except MalformedError as error:
                raise UserError(
                    f"{path} is not an ONNX file of the kind that ga2clip writes: {error}",
                    "export the bundle again; do not use it unless you trust where it is from",
                ) from None


def _model(model: Message) -> Graph:
    graph = None
    for number, value in model.fields(
        "model", {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2}, repeated=(8, 14)
    ):
        if number == 7:
            graph = _graph(value)
        elif number == 8:
            _operator_set(value)
    if graph is None:
        raise MalformedError("it has no graph")
    return graph


def _operator_set(entry: Message) -> None:
    domain, version = "", 0
    for number, value in entry.fields("operator set", {1: 2, 2: 0}):
        domain, version = (value.text(), version) if number == 1 else (domain, value)
    if domain:
        raise MalformedError(f"operators of '{domain:.40}' are not among those that a bundle may use")
    if version not in _OPSETS:
        raise MalformedError(f"opset {version} is not one of {_OPSETS[0]} to {_OPSETS[-1]}")


def _graph(message: Message) -> Graph:
    graph = Graph()
    wires = {1: 2, 2: 2, 5: 2, 10: 2, 11: 2, 12: 2, 13: 2, 14: 2, 16: 2}
    tables = {11: ("input", graph.inputs), 12: ("output", graph.outputs), 13: ("value", graph.inside)}
    for number, value in message.fields("graph", wires, repeated=(1, 5, 11, 12, 13, 14, 16)):
        if number == 1:
            graph.nodes.append(_node(value))
        elif number == 5:
            name, constant = _tensor(value)
            _add(graph.constants, name, constant, "constant")
        elif number in tables:
            kind, table = tables[number]
            _add(table, *_declared(value), kind)
        if len(graph.nodes) > MOST_NODES or len(graph.constants) > _MOST_CONSTANTS:
            raise MalformedError(f"it has more than {MOST_NODES} nodes or {_MOST_CONSTANTS} constants")
    made = Counter(name for node in graph.nodes for name in node.outputs if name)
    made.update(graph.constants.keys())
    made.update(graph.inputs.keys())
    if twice := next((name for name, count in made.items() if count > 1), None):
        raise MalformedError(f"the tensor '{twice:.60}' is made twice")
    return graph


def _add(table: dict, name: str, value: object, kind: str) -> None:
    if name in table:
        raise MalformedError(f"the {kind} '{name:.60}' stands twice")
    table[name] = value


def _node(message: Message) -> Node:
    inputs, outputs, op = [], [], ""
    attributes: dict[str, Attribute] = {}
    wires = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 9: 2}
    for number, value in message.fields("node", wires, repeated=(1, 2, 5, 9)):
        if number == 1:
            inputs.append(value.text())
        elif number == 2:
            outputs.append(value.text())
        elif number == 4:
            op = value.text()
        elif number == 5:
            _add(attributes, *_attribute(value), "attribute")
        elif number == 7 and value.text():
            raise MalformedError(
                f"operators of '{value.text():.40}' are not among those that a bundle may use"
            )
    return Node(op, tuple(inputs), tuple(outputs), attributes)


def _attribute(message: Message) -> tuple[str, Attribute]:
    """Name and value of an attribute; a float gives None."""
    name, whole, text, many, floats = "", None, None, [], False
    wires = {1: 2, 2: 5, 3: 0, 4: 2, 7: None, 8: None, 13: 2, 20: 0}
    for number, value in message.fields("attribute", wires, repeated=(7, 8)):
        if number == 1:
            name = value.text()
        elif number == 3:
            whole = _signed(value)
        elif number == 4:
            text = value.text()
        elif number == 8:
            many += [_signed(item) for item in numbers(value)]
        elif number in (2, 7):
            floats = True
    if (whole is not None) + (text is not None) + bool(many) + floats > 1:
        raise MalformedError(f"the attribute '{name:.40}' has two values")
    return name, whole if whole is not None else text if text is not None else tuple(many) if many else None


def _tensor(message: Message) -> tuple[str, Constant]:
    kind, dims, name, raw, outside = 0, [], "", None, False
    external: dict[str, str] = {}
    typed: list[Message | int] = []
    wires = {
        1: None,
        2: 0,
        4: None,
        5: None,
        7: None,
        8: 2,
        9: 2,
        10: None,
        11: None,
        12: 2,
        13: 2,
        14: 0,
        16: 2,
    }
    for number, value in message.fields("constant", wires, repeated=(1, 4, 5, 7, 10, 11, 13, 16)):
        if number == 1:
            dims += [_signed(item) for item in numbers(value)]
        elif number == 2:
            kind = value
        elif number in (4, 5, 7, 10, 11):
            typed.append(value)
        elif number == 8:
            name = value.text()
        elif number == 9:
            raw = value
        elif number == 13:
            _add(external, *_pair(value), "external entry")
        elif number == 14:
            outside = value == 1
    if kind not in ITEM_BYTES or len(dims) > 8 or any(side < 0 or side > 2**31 for side in dims):
        raise MalformedError(f"the constant '{name:.60}' has type {kind} and shape {dims}"[:200])
    location = _location(name, external) if outside else None
    made = Constant(kind, tuple(dims), None, location)
    if location is None:
        made = Constant(kind, tuple(dims), _values(made, raw, typed, name), None)
    return name, made


def _location(name: str, external: Mapping[str, str]) -> str:
    if not external.get("location"):
        raise MalformedError(f"the constant '{name:.60}' has external data and no location")
    return external["location"]


def _values(
    tensor: Constant, raw: Message | None, typed: list[Message | int], name: str
) -> np.ndarray | None:
    """int64 values of a small constant that may be a shape, else None. Raises MalformedError when a constant's size
    differs from its data.
    """
    held = raw.size if raw is not None else sum(1 if isinstance(part, int) else part.size for part in typed)
    # A number of typed data takes at least one byte, whatever its type.
    wanted = tensor.bytes if raw is not None else tensor.size
    if (raw is not None and (typed or held != wanted)) or held < wanted:
        raise MalformedError(f"the constant '{name:.60}' has {held} bytes of values, not {tensor.bytes}")
    if tensor.kind != INT64 or tensor.bytes > _VALUE_BYTES:
        return None
    if raw is not None:
        return np.frombuffer(raw.bytes(), "<i8").reshape(tensor.shape)
    values = [_signed(item) for part in typed for item in numbers(part)]
    if len(values) != tensor.size:
        raise MalformedError(f"the constant '{name:.60}' has {len(values)} values, not {tensor.size}")
    return np.array(values, np.int64).reshape(tensor.shape)


def _declared(message: Message) -> tuple[str, Declared]:
    name, kind, shape = "", 0, None
    for number, value in message.fields("value", {1: 2, 2: 2, 3: 2, 4: 2}, repeated=(4,)):
        if number == 1:
            name = value.text()
        elif number == 2:
            for inner, tensor in value.fields("type", {1: 2, 6: 2}):
                if inner == 1:
                    kind, shape = _tensor_type(tensor)
    return name, Declared(kind, shape)


def _tensor_type(message: Message) -> tuple[int, tuple[int | None, ...] | None]:
    kind, shape = 0, None
    for number, value in message.fields("tensor type", {1: 0, 2: 2}):
        if number == 1:
            kind = value
        else:
            shape = tuple(_side(side) for _, side in value.fields("shape", {1: 2}, repeated=(1,)))
    return kind, shape


def _side(message: Message) -> int | None:
    """A dimension's length, None where it has a name or nothing."""
    side = None
    for number, value in message.fields("dimension", {1: 0, 2: 2, 3: 2}):
        side = _signed(value) if number == 1 else side
    return side


def _pair(message: Message) -> tuple[str, str]:
    parts = dict(message.fields("entry", {1: 2, 2: 2}))
    return tuple(parts[number].text() if number in parts else "" for number in (1, 2))  # type: ignore[return-value]


def _signed(value: int) -> int:
    """A varint as a signed 64-bit number."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
