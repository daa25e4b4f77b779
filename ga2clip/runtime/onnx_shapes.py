"""Shape inference and cost for each ONNX operator that a bundle may contain.

Operators not in `OPERATORS` are refused: there are no loops, branches or functions, and no tensor whose size depends on
computed data. The values of small int64 tensors (shapes) are tracked, so that the outputs of `Expand`, `Range` and
`Reshape` have known sizes before anything runs. Where the specification is ambiguous the stricter reading is used.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ga2clip.runtime.onnx_scan import INT64, ITEM_BYTES, Node
from ga2clip.runtime.onnx_values import (
    GraphError,
    Result,
    Shape,
    Value,
    axis_of,
    broadcast,
    many,
    numbers,
    whole,
)

_MOST_KNOWN = 1024
"""Most elements of a tensor whose values are tracked; shapes have fewer than ten."""


def _elementwise(_node: Node, inputs: Sequence[Value]) -> Result:
    return Result((broadcast(*(value.shape for value in inputs)),))


def _arithmetic(operation: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> "_Rule":
    def rule(_node: Node, inputs: Sequence[Value]) -> Result:
        shape = broadcast(*(value.shape for value in inputs))
        return Result((shape,), _computed(shape, inputs, lambda parts: operation(*parts)))

    return rule


def _computed(
    shape: Shape, inputs: Sequence[Value], operation: Callable[[list[np.ndarray]], np.ndarray]
) -> np.ndarray | None:
    """The values of a small tensor whose inputs are all known, in wrapping int64 arithmetic as engines use."""
    parts = [value.known for value in inputs]
    if math.prod(shape) > _MOST_KNOWN or any(part is None for part in parts):
        return None
    with np.errstate(over="ignore"):
        return np.asarray(operation(parts))  # type: ignore[arg-type]


def _like_first(_node: Node, inputs: Sequence[Value]) -> Result:
    return Result((inputs[0].shape,))


def _cast(node: Node, inputs: Sequence[Value]) -> Result:
    return Result((inputs[0].shape,), inputs[0].known if whole(node, "to", 0) == INT64 else None)


def _shape(node: Node, inputs: Sequence[Value]) -> Result:
    sides = inputs[0].shape[slice(whole(node, "start", 0), whole(node, "end", len(inputs[0].shape)))]
    return Result(((len(sides),),), np.array(sides, np.int64))


def _reshape(node: Node, inputs: Sequence[Value]) -> Result:
    before, wanted = inputs[0], numbers(inputs[1])
    if not whole(node, "allowzero", 0):
        if any(side == 0 and index >= len(before.shape) for index, side in enumerate(wanted)):
            raise GraphError("a shape copies a side that isn't there")
        wanted = [before.shape[index] if side == 0 else side for index, side in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(side < -1 for side in wanted):
        raise GraphError(f"nothing can have the shape {wanted}")
    if -1 in wanted:
        rest = math.prod(side for side in wanted if side != -1)
        wanted[wanted.index(-1)] = before.size // rest if rest else 0
    if math.prod(wanted) != before.size:
        raise GraphError(f"{before.shape} cannot take the shape {wanted}")
    return Result((tuple(wanted),), None if before.known is None else before.known.reshape(wanted))


def _expand(_node: Node, inputs: Sequence[Value]) -> Result:
    return Result((broadcast(inputs[0].shape, _sides(numbers(inputs[1]))),))


def _sides(sizes: Sequence[int]) -> Shape:
    if any(side < 0 for side in sizes):
        raise GraphError(f"nothing can have the shape {list(sizes)}")
    return tuple(sizes)


def _range(_node: Node, inputs: Sequence[Value]) -> Result:
    bounds = [numbers(value) for value in inputs]
    if any(len(bound) != 1 for bound in bounds) or bounds[2] == [0]:
        raise GraphError("a range without an end")
    start, end, step = (bound[0] for bound in bounds)
    return Result(((max(0, -((start - end) // step)),),))


def _slice(_node: Node, inputs: Sequence[Value]) -> Result:
    data, starts, ends = inputs[0], numbers(inputs[1]), numbers(inputs[2])
    rank = len(data.shape)
    axes = numbers(inputs[3]) if len(inputs) > 3 else list(range(len(starts)))
    steps = numbers(inputs[4]) if len(inputs) > 4 else [1] * len(starts)
    axes = [axis_of(axis, rank) for axis in axes]
    if not len(starts) == len(ends) == len(axes) == len(steps) == len(set(axes)) or min(steps, default=1) < 1:
        raise GraphError("a slice whose parts do not go together")
    cuts = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    shape = tuple(len(range(*cut.indices(side))) for cut, side in zip(cuts, data.shape, strict=True))
    return Result((shape,), None if data.known is None else data.known[tuple(cuts)])


def _concat(node: Node, inputs: Sequence[Value]) -> Result:
    shapes = [value.shape for value in inputs]
    axis = axis_of(whole(node, "axis", 0), len(shapes[0]))
    around = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(around) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise GraphError(f"shapes {' and '.join(map(str, shapes))} do not go together")
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    return Result((shape,), _computed(shape, inputs, lambda parts: np.concatenate(parts, axis)))


def _squeeze(_node: Node, inputs: Sequence[Value]) -> Result:
    shape = inputs[0].shape
    named = [axis_of(axis, len(shape)) for axis in numbers(inputs[1])] if len(inputs) > 1 else None
    gone = [axis for axis, side in enumerate(shape) if side == 1] if named is None else named
    if any(shape[axis] != 1 for axis in gone):
        raise GraphError(f"sides {gone} of {shape} are not 1")
    return _reshaped(inputs[0], tuple(side for axis, side in enumerate(shape) if axis not in gone))


def _unsqueeze(_node: Node, inputs: Sequence[Value]) -> Result:
    axes = numbers(inputs[1])
    rank = len(inputs[0].shape) + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise GraphError(f"axes {axes} name one side twice")
    rest = iter(inputs[0].shape)
    return _reshaped(inputs[0], tuple(1 if axis in new else next(rest) for axis in range(rank)))


def _reshaped(value: Value, shape: Shape) -> Result:
    return Result((shape,), None if value.known is None else value.known.reshape(shape))


def _same(_node: Node, inputs: Sequence[Value]) -> Result:
    return _reshaped(inputs[0], inputs[0].shape)


def _transpose(node: Node, inputs: Sequence[Value]) -> Result:
    shape = inputs[0].shape
    order = many(node, "perm") or tuple(reversed(range(len(shape))))
    if sorted(order) != list(range(len(shape))):
        raise GraphError(f"{order} is no order of {len(shape)} sides")
    return Result((tuple(shape[axis] for axis in order),))


def _gather(node: Node, inputs: Sequence[Value]) -> Result:
    data, indices = inputs
    axis = axis_of(whole(node, "axis", 0), len(data.shape))
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    side = data.shape[axis]
    if indices.known is not None and any(not -side <= index < side for index in numbers(indices)):
        raise GraphError(f"there is nothing at {numbers(indices)[:8]} of {side}")
    return Result(
        (shape,), _computed(shape, inputs, lambda parts: np.take(parts[0], parts[1], axis, mode="wrap"))
    )


def _gather_nd(node: Node, inputs: Sequence[Value]) -> Result:
    data, indices = (value.shape for value in inputs)
    if whole(node, "batch_dims", 0) or not indices or indices[-1] > len(data):
        raise GraphError(f"GatherND of {indices} in {data} is not read")
    return Result(((*indices[:-1], *data[indices[-1] :]),))


def _reduce(node: Node, inputs: Sequence[Value]) -> Result:
    shape = inputs[0].shape
    axes = many(node, "axes") or (numbers(inputs[1]) if len(inputs) > 1 else [])
    gone = {axis_of(axis, len(shape)) for axis in axes}
    if not gone:
        raise GraphError("a reduction over no named axis is not read")
    return Result((_without(shape, gone, whole(node, "keepdims", 1)),))


def _arg_max(node: Node, inputs: Sequence[Value]) -> Result:
    shape = inputs[0].shape
    gone = {axis_of(whole(node, "axis", 0), len(shape))}
    return Result((_without(shape, gone, whole(node, "keepdims", 1)),))


def _without(shape: Shape, gone: set[int], keep: int) -> Shape:
    return tuple(1 if axis in gone else side for axis, side in enumerate(shape) if keep or axis not in gone)


def _quantise(_node: Node, inputs: Sequence[Value]) -> Result:
    return Result((inputs[0].shape, (), ()))


def _product(_node: Node, inputs: Sequence[Value]) -> Result:
    a, b = inputs[0].shape, inputs[1].shape
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise GraphError(f"there is no product of {a} and {b}")
    shape = (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])
    return Result((shape,), work=math.prod(shape) * a[-1], scratch=inputs[1].size)


def _gemm(node: Node, inputs: Sequence[Value]) -> Result:
    a, b = (value.shape for value in inputs[:2])
    if len(a) != 2 or len(b) != 2:
        raise GraphError(f"there is no product of {a} and {b}")
    a = a[::-1] if whole(node, "transA", 0) else a
    b = b[::-1] if whole(node, "transB", 0) else b
    shape = (a[0], b[1])
    if a[1] != b[0] or (len(inputs) > 2 and broadcast(shape, inputs[2].shape) != shape):
        raise GraphError(f"there is no product of {a} and {b}")
    return Result((shape,), work=math.prod(shape) * a[1], scratch=inputs[1].size)


def _batch_norm(node: Node, inputs: Sequence[Value]) -> Result:
    """With the moments of training as weights, one of each per channel."""
    shape = inputs[0].shape
    if whole(node, "training_mode", 0) or len(shape) < 2 or any(v.shape != shape[1:2] for v in inputs[1:]):
        raise GraphError(f"a batch normalisation of {shape} by {inputs[1].shape} is not read")
    return Result((shape,))


_BLOCK = 16
"""Engines lay channels out in blocks of up to this many and fill what is missing."""


def _convolution(node: Node, inputs: Sequence[Value]) -> Result:
    """Of images (N, C, H, W), in groups or not, with less padding than the kernel is long and no dilation."""
    x, weight = inputs[0].shape, inputs[1].shape
    groups = whole(node, "group", 1)
    if (
        [len(x), len(weight)] != [4, 4]
        or min(weight) < 1
        or groups < 1
        or x[1] != weight[1] * groups
        or weight[0] % groups
        or many(node, "kernel_shape") not in (None, weight[2:])
    ):
        raise GraphError(f"a convolution of {x} with {weight} is not read")
    sides = _window(node, x, weight[2:])
    shape = (x[0], weight[0], *sides)
    taps = math.prod(weight[1:])
    filled = sum(
        -channels % _BLOCK * size for channels, size in ((x[1], x[2] * x[3]), (weight[0], math.prod(sides)))
    )
    return Result((shape,), work=math.prod(shape) * taps, scratch=math.prod(sides) * taps + x[0] * filled)


def _average_pool(node: Node, inputs: Sequence[Value]) -> Result:
    """Of images (N, C, H, W), as `_convolution`."""
    x, kernel = inputs[0].shape, many(node, "kernel_shape") or ()
    if len(x) != 4 or len(kernel) != 2 or min(kernel) < 1 or whole(node, "ceil_mode", 0):
        raise GraphError(f"pooling of {x} by {kernel} is not read")
    sides = _window(node, x, kernel)
    shape = (*x[:2], *sides)
    filled = -x[1] % _BLOCK * (x[2] * x[3] + math.prod(sides))
    return Result((shape,), work=math.prod(shape) * math.prod(kernel), scratch=x[0] * filled)


def _window(node: Node, x: Shape, kernel: Shape) -> tuple[int, int]:
    """Sides of what a window that is moved over an image (N, C, H, W) gives."""
    strides, pads = many(node, "strides") or (1, 1), many(node, "pads") or (0, 0, 0, 0)
    if (
        len(strides) != 2
        or len(pads) != 4
        or min(strides) < 1
        or any(not 0 <= pad < kernel[index % 2] for index, pad in enumerate(pads))
        or {*(many(node, "dilations") or ()), 1} != {1}
        or node.attributes.get("auto_pad", "NOTSET") != "NOTSET"
    ):
        raise GraphError(f"a window {kernel} with strides {strides} and padding {pads} is not read")
    height, width = ((x[2 + i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in range(2))
    if min(height, width) < 1:
        raise GraphError(f"a window {kernel} is larger than {x}")
    return height, width


def _attention(_node: Node, inputs: Sequence[Value]) -> Result:
    """Of (batch, heads, length, width) without a cache."""
    q, k, v = (value.shape for value in inputs[:3])
    if (
        not len(q) == len(k) == len(v) == 4
        or q[:2] != k[:2]
        or q[:2] != v[:2]
        or q[3] != k[3]
        or k[2] != v[2]
    ):
        raise GraphError(f"attention of {q}, {k} and {v} is not read")
    table = math.prod(q[:3]) * k[2]
    if len(inputs) > 3 and broadcast((*q[:3], k[2]), inputs[3].shape) != (*q[:3], k[2]):
        raise GraphError(f"a mask {inputs[3].shape} does not fit {q} and {k}")
    return Result(((*q[:3], v[3]),), work=table * (q[3] + v[3]), scratch=3 * table)


_FLOAT, _UINT8, _INT32, _BOOL = 1, 2, 6, 9  # TensorProto.DataType, as INT64
_INTEGERS = {2, 3, 4, 5, 6, INT64, 12, 13}

_Rule = Callable[[Node, Sequence[Value]], Result]
_UNARY = "Abs Erf Exp Gelu IsNaN Log LogSoftmax Neg Not Reciprocal Relu Sigmoid Softmax Sqrt Tanh"
_BINARY = "And Div Equal Greater GreaterOrEqual Less LessOrEqual Or Pow"

# operator: (fewest and most inputs, outputs, rule)
OPERATORS: dict[str, tuple[int, int, int, _Rule]] = {
    **dict.fromkeys(_UNARY.split(), (1, 1, 1, _like_first)),
    **dict.fromkeys(_BINARY.split(), (2, 2, 1, _elementwise)),
    "Add": (2, 2, 1, _arithmetic(np.add)),
    "ArgMax": (1, 1, 1, _arg_max),
    "Attention": (3, 4, 1, _attention),
    "AveragePool": (1, 1, 1, _average_pool),
    "BatchNormalization": (5, 5, 1, _batch_norm),
    "Cast": (1, 1, 1, _cast),
    "Clip": (1, 3, 1, _like_first),
    "Concat": (1, 64, 1, _concat),
    "Conv": (2, 3, 1, _convolution),
    "DynamicQuantizeLinear": (1, 1, 3, _quantise),
    "Expand": (2, 2, 1, _expand),
    "Gather": (2, 2, 1, _gather),
    "GatherND": (2, 2, 1, _gather_nd),
    "Gemm": (2, 3, 1, _gemm),
    "Identity": (1, 1, 1, _same),
    "LayerNormalization": (2, 3, 1, _like_first),
    "MatMul": (2, 2, 1, _product),
    "MatMulInteger": (2, 4, 1, _product),
    "Max": (1, 8, 1, _elementwise),
    "Min": (1, 8, 1, _elementwise),
    "Mul": (2, 2, 1, _arithmetic(np.multiply)),
    "RMSNormalization": (2, 2, 1, _like_first),
    "Range": (3, 3, 1, _range),
    "ReduceL2": (1, 2, 1, _reduce),
    "ReduceMax": (1, 2, 1, _reduce),
    "ReduceMean": (1, 2, 1, _reduce),
    "ReduceSum": (1, 2, 1, _reduce),
    "Reshape": (2, 2, 1, _reshape),
    "Shape": (1, 1, 1, _shape),
    "Slice": (3, 5, 1, _slice),
    "Squeeze": (1, 2, 1, _squeeze),
    "Sub": (2, 2, 1, _arithmetic(np.subtract)),
    "Transpose": (1, 1, 1, _transpose),
    "Unsqueeze": (2, 2, 1, _unsqueeze),
    "Where": (3, 3, 1, _elementwise),
}
"""The operators that a bundle may contain: those of our exports, and further element-wise ones."""

_COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_MAKES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys((*_COMPARISONS, "And", "IsNaN", "Not", "Or"), (_BOOL,)),
    **dict.fromkeys(("ArgMax", "Shape"), (INT64,)),
    "DynamicQuantizeLinear": (_UINT8, _FLOAT, _UINT8),
    "MatMulInteger": (_INT32,),
}
"""Element types of outputs that are not those of an input."""
_MOVES = {"Concat", "Expand", "Gather", "GatherND", "Identity", "Reshape", "Slice", "Squeeze", "Transpose"}
_TAKE_INTEGERS = {
    *(*_COMPARISONS, *_MOVES, "Add", "ArgMax", "Cast", "MatMulInteger", "Mul", "Range", "Shape", "Sub"),
    *("Unsqueeze", "Where"),
}
"""Operators that our exports use on integers, and their like. Not `Div` and `Pow`: a processor stops a program that
divides by 0, or the smallest number by -1."""


def check_operator(node: Node) -> None:
    """Raises GraphError for an operator that a bundle may not use."""
    if node.op not in OPERATORS:
        raise GraphError(f"the operator '{node.op:.40}' is not among those that a bundle may use")


def evaluate(node: Node, inputs: Sequence[Value]) -> Result:
    """Output shapes and cost of a node. Raises GraphError for a node that is refused."""
    fewest, most, outputs, rule = OPERATORS[node.op]
    if not fewest <= len(inputs) <= most or len(node.outputs) != outputs:
        raise GraphError(f"{node.op} has {len(inputs)} inputs and {len(node.outputs)} outputs")
    computed = inputs[:1] if node.op.startswith("Reduce") else inputs  # its other input names axes
    if node.op not in _TAKE_INTEGERS and any(value.kind in _INTEGERS for value in computed):
        raise GraphError("it computes with integers, which no export of ours does")
    result = rule(node, inputs)
    # An engine may divide by the sides of an empty tensor. (An empty list of sides says that a tensor is a scalar.)
    for shape in (inputs[0].shape, *(value.shape for value in inputs if value.kind != INT64), *result.shapes):
        if 0 in shape:
            raise GraphError(f"it reads or gives an empty tensor {shape}")
    return result


def kinds(node: Node, inputs: Sequence[Value]) -> tuple[int, ...]:
    """Element types of a node's outputs. Raises GraphError for one that is not read."""
    if node.op == "Cast":
        return (checked_kind(whole(node, "to", 0)),)
    like = inputs[1] if node.op in ("RMSNormalization", "Where") else inputs[0]
    return _MAKES.get(node.op, (like.kind,))


def checked_kind(kind: int) -> int:
    """The element type. Raises GraphError for one that is not read."""
    if kind not in ITEM_BYTES:
        raise GraphError(f"a tensor of type {kind} is not read")
    return kind
