"""A float32 ONNX file goes in, an int8 one comes out whose disagreement was measured while its layers were
chosen.

Matrix products with constant weights become dynamic 8 bit: activations unsigned, weights signed and per
column, which is what CPUs with dot-product instructions are fast at. The layers with the largest
quantisation error go back to float32, twice as many each time, until the caller is content with what it
measures.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from ga2clip_export.activations import quantisation_errors

_log = logging.getLogger(__name__)


def to_int8(
    source: Path, target: Path, inputs: Mapping[str, np.ndarray], good_enough: Callable[[Path], bool]
) -> tuple[str, ...]:
    """Quantise `source` into `target`. Returns the names of the layers that stay float32.

    inputs: real ones, on which layers are ranked. good_enough: looks at the written file; the first that
    pleases it stays. When none does, the last one, half of whose layers are float32, stays: the gate has the
    last word.
    """
    _quantise(source, target, [])
    if good_enough(target):
        return ()
    ranked = _worst_first(source, inputs)
    count = 1
    while True:
        kept = ranked[:count]
        _log.info("%s: %d of %d layers stay float32", source.name, count, len(ranked))
        _quantise(source, target, kept)
        if good_enough(target) or count >= len(ranked) // 2:
            return tuple(kept)
        count *= 2


def _worst_first(source: Path, inputs: Mapping[str, np.ndarray]) -> list[str]:
    errors = quantisation_errors(onnx.load(str(source)), inputs)
    return sorted(errors, key=lambda name: -errors[name])


def _quantise(source: Path, target: Path, floats: Sequence[str]) -> None:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a pre-processing that the graphs had already
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=list(floats),
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)
