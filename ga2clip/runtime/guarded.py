"""Protection against hostile bundles: an encoder's graph is checked before it is loaded and at each new input shape.

A bundle's hashes show that its files are unchanged, not that their author is trustworthy. So the cost of a graph is
computed first (`onnx_cost`): it must consist of known operators, its outputs must have the shapes that the card
promises, and its work and memory must be plausible for a network with that many weights. The same is done before each
run on a new input shape, and the shapes of the outputs are compared with the computed ones.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ga2clip.errors import UserError
from ga2clip.runtime.card import POOLING, TEXT_ENCODER, VIDEO_ENCODER, BundleCard
from ga2clip.runtime.engine import Engine
from ga2clip.runtime.onnx_cost import Cost, GraphError, measure
from ga2clip.runtime.onnx_scan import Declared, Graph
from ga2clip.runtime.onnx_values import Shape

_UINT8, _INT64, _FLOAT = 2, 7, 1  # TensorProto.DataType
_MOST_BYTES = 2 * 2**30
"""Most bytes of the tensors alive at once for one clip (with the card's number of frames) or one text."""
_WORK, _WORK_PER_TOKEN, _WORK_PER_WEIGHT = 2_000_000_000, 4_000_000, 3
"""Multiply-adds: a constant, and for each token of each frame or text a constant and as many per weight. A
transformer uses each weight once per token; attention and element-wise steps come on top."""
_PATCH, _PROMPTS = (
    14,
    64,
)  # the smallest patch of a CLIP, and room for prompts: how many tokens a frame may have
_SHAPES_REMEMBERED = 256
_DISTRUST = "do not use this bundle unless you trust where it is from; else export it again"


@dataclass(frozen=True)
class Contract:
    """What the card promises of a graph: one input, named float32 outputs, and the size of its work.

    kind, shape: the input's element type and shape; None: any length. outputs: input shape → output shapes by name.
    items: input shape → number of frames or texts. tokens: input shape → tokens of one item, without prompts. usual:
    typical input shapes, the smallest first.
    """

    input: str
    kind: int
    shape: tuple[int | None, ...]
    outputs: Callable[[Shape], Mapping[str, Shape]]
    items: Callable[[Shape], int]
    tokens: Callable[[Shape], int]
    usual: tuple[Shape, ...]


def contract(card: BundleCard, name: str) -> Contract:
    """The contract of a graph of a bundle."""
    width, frames = card.embedding, card.sampling.frames
    if name == POOLING:
        return Contract(
            input="frame_features",
            kind=_FLOAT,
            shape=(None, None, width),
            outputs=lambda shape: {"video_features": (shape[0], width)},
            items=lambda shape: shape[0] * shape[1],
            tokens=lambda _: 1,
            usual=((1, frames, width), (1, 1, width), (2, frames + 1, width)),
        )
    if name == TEXT_ENCODER:
        context = card.text.context
        return Contract(
            input="ids",
            kind=_INT64,
            shape=(None, None),
            outputs=lambda shape: {"features": (shape[0], width)},
            items=lambda shape: shape[0],
            tokens=lambda shape: shape[1],
            usual=((1, context), (2, context)),
        )
    assert name == VIDEO_ENCODER
    size = card.preprocess.size
    one, static = (1, frames, size, size, 3), card.onnx.static

    def outputs(shape: Shape) -> Mapping[str, Shape]:
        frame_features = {"frame_features": (*shape[:2], width)}
        return (
            frame_features
            if card.pooling == "graph"
            else frame_features | {"video_features": (shape[0], width)}
        )

    return Contract(
        input="frames",
        kind=_UINT8,
        shape=one if static else (None, None, size, size, 3),
        outputs=outputs,
        items=lambda shape: shape[0] * shape[1],
        tokens=lambda _: math.ceil(size / _PATCH) ** 2,
        usual=(one,) if static else (one, (2, frames + 1, size, size, 3)),
    )


def check_graph(graph: Graph, promised: Contract, path: Path) -> dict[Shape, Cost]:
    """Check a graph against the card before an engine loads it.

    Returns:
        The costs of runs on the usual input shapes.

    Raises:
        UserError: it may not be loaded; names the file and the reason.
    """
    try:
        _check_declared("input", graph.inputs, {promised.input: promised.kind})
        _check_declared("output", graph.outputs, dict.fromkeys(promised.outputs(promised.usual[0]), _FLOAT))
        shape = graph.inputs[promised.input].shape
        if (
            shape is None
            or len(shape) != len(promised.shape)
            or any(
                side is not None and side != wanted
                for side, wanted in zip(shape, promised.shape, strict=True)
            )
        ):
            raise GraphError(f"the input '{promised.input}' has the shape {shape}, not {promised.shape}")
        return {usual: _check_cost(graph, promised, usual) for usual in promised.usual}
    except GraphError as error:
        raise UserError(f"{path} is not a graph that this bundle may hold: {error}", _DISTRUST) from None


def _check_declared(kind: str, declared: Mapping[str, Declared], wanted: Mapping[str, int]) -> None:
    if {name: entry.kind for name, entry in declared.items()} != dict(wanted):
        names = ", ".join(f"{name:.40}" for name in list(declared)[:4])
        raise GraphError(f"its {kind}s are {names or 'none'}, expected {', '.join(wanted)} of the usual type")


def _check_cost(graph: Graph, promised: Contract, shape: Shape) -> Cost:
    """The cost of a run on inputs of this shape. Raises GraphError when it is implausibly high for the card."""
    cost = measure(graph, {promised.input: shape})
    wanted = dict(promised.outputs(shape))
    if dict(cost.outputs) != wanted:
        raise GraphError(f"it gives {dict(cost.outputs)}, not {wanted}")
    clips = promised.items(shape) / promised.items(promised.usual[0])
    if cost.peak > _MOST_BYTES * max(clips, 1):
        raise GraphError(f"it needs {cost.peak / 2**30:,.1f} GiB for a batch of shape {shape}")
    per_token = _WORK_PER_TOKEN + _WORK_PER_WEIGHT * graph.weights
    allowed = _WORK + promised.items(shape) * (_PROMPTS + promised.tokens(shape)) * per_token
    if cost.work > allowed:
        raise GraphError(f"it computes {cost.work:.1e} products where at most {allowed:.1e} make sense")
    return cost


class GuardedEngine:
    """An engine with a cost check before each run and a shape check after it. Large batches are run in parts.

    costs: those of shapes that were checked before, as `check_graph` returns them. path: the file, for errors. Safe to
    use from several threads, like the engine inside.
    """

    def __init__(
        self, engine: Engine, graph: Graph, promised: Contract, costs: Mapping[Shape, Cost], path: Path
    ) -> None:
        self.provider = engine.provider
        self._engine, self._graph, self._promised, self._path = engine, graph, promised, path
        self._costs = dict(costs)
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph on its one named input; returns its named outputs, float32.

        Raises UserError for a shape that the graph can't take or that costs too much, and for outputs of another shape
        or dtype than expected.
        """
        array = inputs[self._promised.input]
        cost = self._cost(array.shape)
        rows = len(array)
        if cost.peak > _MOST_BYTES and rows > 1:
            parts = [self.run({self._promised.input: part}) for part in np.array_split(array, 2)]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        outputs = self._engine.run({self._promised.input: array})
        shapes = {name: (values.dtype, values.shape) for name, values in outputs.items()}
        if shapes != {name: (np.dtype(np.float32), shape) for name, shape in cost.outputs.items()}:
            raise UserError(f"{self._path} gave {shapes}, not {dict(cost.outputs)}"[:400], _DISTRUST)
        return outputs

    def _cost(self, shape: Shape) -> Cost:
        """The cost for an input shape, computed once per shape."""
        with self._lock:
            if shape not in self._costs:
                if len(self._costs) >= _SHAPES_REMEMBERED:
                    self._costs.clear()
                try:
                    self._costs[shape] = _check_cost(self._graph, self._promised, shape)
                except GraphError as error:
                    raise UserError(f"{self._path} cannot be run on {shape}: {error}", _DISTRUST) from None
            return self._costs[shape]
