"""Writes the encoders of a model as ONNX files of one precision and measures their agreement with torch.

fp32 and fp16 graphs use plain operators (opset 20); int8 keeps attention as one operator (opset 23), which is faster.
A temporal pooling takes features of float32 and stays float32, whatever the precision.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ga2clip.choices import BundlePrecision, ExportPrecision
from ga2clip.errors import UserError
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.card import POOLING, TEXT_ENCODER, VIDEO_ENCODER, Agreement, OnnxCard
from ga2clip.runtime.engine import Engine, has_cuda, open_engine
from ga2clip_export import verify
from ga2clip_export.float16 import to_float16
from ga2clip_export.graphs import (
    ATTENTION_OPSET,
    PLAIN_OPSET,
    export_pooling,
    export_text_encoder,
    export_video_encoder,
)
from ga2clip_export.quantise import to_int8
from ga2clip_export.towers import FoldedPooling, FoldedTextEncoder, FoldedVideoEncoder

_log = logging.getLogger(__name__)

_MARGIN = 0.995
"""Cosine that the choice of int8 layers must reach, above the 0.99 of the agreement check."""
_FRAMES_INSIDE = 4  # frames whose activations are measured; each costs memory


@dataclass(frozen=True)
class Encoders:
    """The result of `write_encoders`."""

    precision: BundlePrecision
    card: OnnxCard
    agreement: Agreement


def write_encoders(
    model: VideoCLIP,
    folder: Path,
    expected: verify.Reference,
    *,
    precision: ExportPrecision,
    opset: int | None,
    static: bool,
) -> Encoders:
    """Write both encoders into `folder` and compare them with torch.

    precision `auto`: fp16 if there is a GPU, else int8; if the result disagrees with torch, fp32.
    Raises UserError when the result disagrees with torch, or the opset is too old for the precision.
    """
    if precision != "auto":
        return _write(model, folder, expected, precision, opset, static)
    first: BundlePrecision = "fp16" if has_cuda() else "int8"
    try:
        return _write(model, folder, expected, first, opset, static)
    except UserError as error:
        _log.warning("%s; taking fp32", error.message)
        return _write(model, folder, expected, "fp32", opset, static)


def _write(
    model: VideoCLIP,
    folder: Path,
    expected: verify.Reference,
    precision: BundlePrecision,
    opset: int | None,
    static: bool,
) -> Encoders:
    version = opset or (ATTENTION_OPSET if precision == "int8" else PLAIN_OPSET)
    if version < PLAIN_OPSET:
        raise UserError(f"opset {version} is too old for these graphs", f"take {PLAIN_OPSET} or more")
    video, text, context = folder / VIDEO_ENCODER, folder / TEXT_ENCODER, model.backbone.context_length
    kept: tuple[str, ...] = ()
    if model.pools:
        export_pooling(
            FoldedPooling(model), folder / POOLING, width=model.backbone.embed_dim, opset=opset or PLAIN_OPSET
        )
    pooling = _engine(folder / POOLING) if model.pools else None
    if precision == "fp32":
        _trace(model, folder, expected, version, static)
    else:
        with TemporaryDirectory(dir=folder) as floats:
            _trace(model, Path(floats), expected, version, static)
            kept = _convert(Path(floats), folder, expected, precision, static, pooling)
    agreement = verify.measure(
        _engine(video), _engine(text), pooling, expected, context=context, precision=precision, static=static
    )
    verify.check(agreement, precision)
    return Encoders(precision, OnnxCard(opset=version, static=static, float_layers=kept), agreement)


def _trace(model: VideoCLIP, folder: Path, expected: verify.Reference, opset: int, static: bool) -> None:
    """Both encoders in float32."""
    size, frames = model.preprocess.size, expected.clips.shape[1]
    video = FoldedVideoEncoder(model)
    export_video_encoder(video, folder / VIDEO_ENCODER, size=size, frames=frames, opset=opset, static=static)
    context = model.backbone.context_length
    export_text_encoder(FoldedTextEncoder(model), folder / TEXT_ENCODER, context=context, opset=opset)


def _convert(
    floats: Path,
    folder: Path,
    expected: verify.Reference,
    precision: BundlePrecision,
    static: bool,
    pooling: Engine | None,
) -> tuple[str, ...]:
    """Both encoders from one folder into the other. Returns the layers that stay float32."""
    clip = {"frames": expected.clips[:1] if static else expected.clips[:1, :_FRAMES_INSIDE]}
    longest = {"ids": max(expected.ids, key=len)[None]}
    kept: tuple[str, ...] = ()
    for name, inputs, good_enough in (
        (VIDEO_ENCODER, clip, partial(_video_is_good, pooling=pooling, expected=expected, static=static)),
        (TEXT_ENCODER, longest, partial(_text_is_good, expected=expected)),
    ):
        if precision == "fp16":
            kept += to_float16(floats / name, folder / name, inputs)
        else:
            kept += to_int8(floats / name, folder / name, inputs, good_enough)
    return kept


def _video_is_good(path: Path, pooling: Engine | None, expected: verify.Reference, static: bool) -> bool:
    cosine, top1 = verify.video_agreement(_engine(path), pooling, expected, static=static)
    return cosine >= _MARGIN and top1 >= verify.TOLERANCES["int8"]["top1_but_ties"]


def _text_is_good(path: Path, expected: verify.Reference) -> bool:
    return verify.text_cosine(_engine(path), expected) >= _MARGIN


def _engine(path: Path) -> Engine:
    return open_engine(path, "cpu")
