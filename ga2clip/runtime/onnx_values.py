"""Tensors of an ONNX graph as far as they are known before it runs, and the attributes of its nodes."""

import math
from dataclasses import dataclass

import numpy as np

from ga2clip.runtime.onnx_scan import ITEM_BYTES, Node

Shape = tuple[int, ...]


class GraphError(Exception):
    """A graph that is refused. The message says why."""


@dataclass(frozen=True)
class Value:
    """A tensor: shape, element type (TensorProto.DataType), values (small int64 ones only), and whether constant."""

    shape: Shape
    kind: int
    known: np.ndarray | None = None
    constant: bool = False

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in memory. An element has at least 4: engines compute what is smaller in float32 where they lack the
        operator.
        """
        return self.size * max(4, ITEM_BYTES[self.kind])


@dataclass(frozen=True)
class Result:
    """Shapes of a node's outputs. work: multiply-adds; scratch: elements that it needs while it runs."""

    shapes: tuple[Shape, ...]
    known: np.ndarray | None = None
    work: int = 0
    scratch: int = 0


def broadcast(*shapes: Shape) -> Shape:
    """The shape by NumPy's broadcasting rule. Raises GraphError for shapes that can't be broadcast."""
    result: list[int] = []
    for sides in zip(*(((1,) * (max(map(len, shapes)) - len(s))) + s for s in shapes), strict=True):
        others = {side for side in sides if side != 1}
        if len(others) > 1:
            raise GraphError(f"shapes {' and '.join(map(str, shapes))} do not go together")
        result.append(others.pop() if others else 1)
    return tuple(result)


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as a number from 0 on. Raises GraphError when it is out of range."""
    if not -rank <= axis < rank:
        raise GraphError(f"axis {axis} of {rank}")
    return axis % rank


def whole(node: Node, name: str, default: int) -> int:
    """An attribute that is one whole number. Raises GraphError for another kind."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise GraphError(f"the attribute '{name}' is no whole number")
    return value


def many(node: Node, name: str) -> tuple[int, ...] | None:
    """An attribute that is a list of whole numbers; None without it. Raises GraphError for another kind."""
    value = node.attributes.get(name)
    if value is not None and not isinstance(value, tuple):
        raise GraphError(f"the attribute '{name}' is no list of whole numbers")
    return value


def numbers(value: Value) -> list[int]:
    """The values of a tensor that determines a shape. Raises GraphError when they are not known before running."""
    if value.known is None:
        raise GraphError("a shape depends on data that is only known while the graph runs")
    return [int(number) for number in value.known.reshape(-1)]
