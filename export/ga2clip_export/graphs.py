"""Writes folded towers as ONNX files: traced by torch's dynamo exporter, constants folded, names and shapes simplified.

The graphs take any batch size (and any number of frames or tokens) unless they are static.
"""

import contextlib
import io
import logging
import math
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from ga2clip.errors import UserError, first_line
from ga2clip.runtime.ort import onnxruntime
from ga2clip_export.towers import FoldedPooling, FoldedTextEncoder, FoldedVideoEncoder

PLAIN_OPSET = 20
"""With this opset all operators are supported by ONNX Runtime since 1.17 and by other engines."""
ATTENTION_OPSET = 23
"""With this opset attention is one operator (ONNX Runtime ≥ 1.23), which makes int8 fast."""

_MOST_INSIDE = 16 * 2**20
"""Bytes. The weights of larger models go into a separate file: ONNX Runtime maps it into memory, where it copies those
inside a graph (measured: docs/benchmarks.md, "Opening a bundle")."""
_LARGEST_FILE = 1_900_000_000
"""Bytes. Protobuf messages are limited to 2 GiB."""


def export_video_encoder(
    encoder: FoldedVideoEncoder, path: Path, *, size: int, frames: int, opset: int, static: bool
) -> None:
    """Write `video_encoder.onnx`: `frames` uint8 (batch, frames, S, S, 3) → `frame_features` and, without temporal
    pooling, `video_features`.
    """
    example = torch.zeros((1, frames, size, size, 3) if static else (2, 3, size, size, 3), dtype=torch.uint8)
    shapes = {0: Dim("batch", min=1), 1: Dim("frames", min=1)}
    outputs = ["frame_features"] if encoder.pools else ["frame_features", "video_features"]
    _export(encoder, {"frames": example}, outputs, {"frames": {} if static else shapes}, path, opset)


def export_pooling(pooling: FoldedPooling, path: Path, *, width: int, opset: int) -> None:
    """Write `pooling.onnx`: `frame_features` float32 (batch, frames, D) → `video_features`, for any T."""
    shapes = {0: Dim("batch", min=1), 1: Dim("frames", min=1)}
    example = {"frame_features": torch.zeros(2, 3, width)}
    _export(pooling, example, ["video_features"], {"frame_features": shapes}, path, opset)


def export_text_encoder(encoder: FoldedTextEncoder, path: Path, *, context: int, opset: int) -> None:
    """Write `text_encoder.onnx`: `ids` int64 (texts, length) → `features`, for any length up to the context."""
    shortest = encoder.behind_prompt + 2
    example = torch.zeros((2, min(shortest + 3, context)), dtype=torch.int64)
    shapes = {0: Dim("texts", min=1), 1: Dim("length", min=shortest, max=context)}
    _export(encoder, {"ids": example}, ["features"], {"ids": shapes}, path, opset)
    if (compact := _without_empty_rows(onnx.load(str(path)))) is not None:
        save(compact, path)


def _without_empty_rows(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with a token embedding that is mostly zeros stored as its other rows alone; None if it has none.

    The built-in backbone knows some hundred of CLIP's tokens. The ids are looked up in a table of row numbers first,
    row 0 is zero, so the features stay the same to the last bit.
    """
    tables = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Gather" or node.input[0] not in tables:
            continue
        table = numpy_helper.to_array(tables[node.input[0]])
        filled = np.asarray(table.any(axis=1))
        if 2 * filled.sum() > len(table):
            continue
        places = np.where(filled, np.cumsum(filled), 0).astype(np.int32)
        rows = np.concatenate([np.zeros_like(table[:1]), table[filled]])
        name, of = node.input[0], f"{node.input[0]}.row"
        # New names: they are other tensors.
        tables[name].CopyFrom(numpy_helper.from_array(rows, f"{name}.rows"))
        model.graph.initializer.append(numpy_helper.from_array(places, f"{name}.places"))
        look_up = onnx.helper.make_node("Gather", [f"{name}.places", node.input[1]], [of], axis=0)
        node.input[:] = [f"{name}.rows", of]
        model.graph.node.insert(index, look_up)
        return model
    return None


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model; the weights of a large model go into `<name>.data` beside it."""
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # onnx would append to it
    outside = _weight_bytes(model) > _MOST_INSIDE
    onnx.save(model, str(path), save_as_external_data=outside, location=beside.name if outside else None)
    if outside:
        shutil.copymode(path, beside)  # onnx makes it a private file, which a service's user could not read


def _weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all weights. (Protobuf can't compute the size of a model above 2 GiB.)"""
    return sum(tensor_bytes(tensor) for tensor in model.graph.initializer)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's values."""
    return math.prod(tensor.dims) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: list[str],
    shapes: Mapping[str, Mapping[int, Any]],
    path: Path,
    opset: int,
) -> None:
    traced = path.with_name(f"traced_{path.name}")
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dict(shapes),
            input_names=list(inputs),
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    program.save(
        str(traced), external_data=sum(t.nbytes for t in module.state_dict().values()) > _LARGEST_FILE
    )
    del program
    save(_plain(_fold_constants(traced)), path)
    for leftover in path.parent.glob(f"{traced.name}*"):
        leftover.unlink()


def _fold_constants(path: Path) -> onnx.ModelProto:
    """The model with everything precomputed that doesn't depend on an input, mainly the prompts in the text tower.

    This is ONNX Runtime's basic optimisation, which uses its own kernels and writes standard operators only.
    """
    folded = path.with_name(f"{path.name}.folded")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", f"{folded.name}.data"
    )
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
    )
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no base
        reason = first_line(error)
        raise UserError(
            f"ONNX Runtime cannot fold the traced graph: {reason}", "check that the disk has free space"
        ) from None
    return onnx.load(str(folded))


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove traces of the tools: unused operator sets, source lines of this machine, doc strings, and the shapes
    between nodes, which engines find out by themselves, and which take as long to read as all the rest.
    """
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string, model.graph.doc_string = (
        "ga2clip",
        "",
        "",
        "",
    )
    if _weight_bytes(model) <= _LARGEST_FILE:  # the checker can't handle larger ones
        onnx.checker.check_model(model)
    return model


@contextlib.contextmanager
def _quiet() -> Any:
    """Suppress the exporter's progress lines and internal notes."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
