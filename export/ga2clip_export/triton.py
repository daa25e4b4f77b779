"""Writes an NVIDIA Triton model repository with a bundle's encoders.

    DIR/ga2clip_video/config.pbtxt    frames uint8 (T, S, S, 3) → frame_features (T, D), video_features (D)
    DIR/ga2clip_video/1/model.onnx
    DIR/ga2clip_pooling/…             with temporal pooling: frame_features (T, D) → video_features (D), which the video
                                      encoder then lacks
    DIR/ga2clip_text/…                ids int64 (L) → features (D)

Triton adds the batch dimension and batches requests of equal shape. The class features and negatives (text bank), the
tokenizer, the scale and the calibration are in the bundle, for the client, which computes probabilities.
"""

import shutil
from pathlib import Path

from ga2clip.errors import UserError
from ga2clip.files import sync, sync_tree, write_error
from ga2clip.runtime.bundle import Bundle, open_bundle
from ga2clip.runtime.card import POOLING, TEXT_ENCODER, VIDEO_ENCODER
from ga2clip.runtime.onnx_scan import external_files

_VIDEO, _POOLING, _TEXT = "ga2clip_video", "ga2clip_pooling", "ga2clip_text"
_LARGEST_BATCH = {VIDEO_ENCODER: 16, POOLING: 64, TEXT_ENCODER: 64}
_WAIT_MICROSECONDS = 2000

_CONFIG = """\
name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {batch}
input [ {{ name: "{input}" data_type: {type} dims: [ {dims} ] }} ]
output [
{outputs}
]
{batching}"""


def write_triton(bundle: Path, out: Path) -> Path:
    """Write the repository; returns `out`.

    Raises UserError for an invalid bundle, existing models of these names in `out`, or a full disk.
    """
    refuse_occupied(out)
    opened = open_bundle(bundle)
    opened.verify()
    card = opened.card
    if card.taught:
        raise UserError(
            f"{bundle} was taught from examples, and a Triton client scores by cosines with the text bank alone",
            "write the repository of the bundle that was exported",
        )
    side, width = card.preprocess.size, card.embedding
    frames = f"{card.sampling.frames}, {side}, {side}, 3" if card.onnx.static else f"-1, {side}, {side}, 3"
    per_frame = card.sampling.frames if card.onnx.static else -1
    pools, video_features = card.pooling == "graph", {"video_features": f"{width}"}
    try:
        _write_model(
            opened,
            out / _VIDEO,
            VIDEO_ENCODER,
            inputs=("frames", "TYPE_UINT8", frames),
            outputs={"frame_features": f"{per_frame}, {width}"} | ({} if pools else video_features),
            batch=1 if card.onnx.static else _LARGEST_BATCH[VIDEO_ENCODER],
        )
        if pools:
            _write_model(
                opened,
                out / _POOLING,
                POOLING,
                inputs=("frame_features", "TYPE_FP32", f"-1, {width}"),
                outputs=video_features,
                batch=_LARGEST_BATCH[POOLING],
            )
        _write_model(
            opened,
            out / _TEXT,
            TEXT_ENCODER,
            inputs=("ids", "TYPE_INT64", "-1"),
            outputs={"features": f"{width}"},
            batch=_LARGEST_BATCH[TEXT_ENCODER],
        )
    except OSError as error:
        raise write_error(out, error) from error
    return out


def refuse_occupied(out: Path) -> None:
    """Raises UserError when `out` has models of these names already."""
    for taken in (out / _VIDEO, out / _POOLING, out / _TEXT):
        if taken.exists():
            raise UserError(f"{taken} exists", "choose another folder, or remove it")


def _write_model(
    bundle: Bundle,
    folder: Path,
    graph: str,
    *,
    inputs: tuple[str, str, str],
    outputs: dict[str, str],
    batch: int,
) -> None:
    """Write one model, under a temporary name in the same folder that is then renamed."""
    name, kind, dims = inputs
    rows = [f'  {{ name: "{key}" data_type: TYPE_FP32 dims: [ {shape} ] }}' for key, shape in outputs.items()]
    batching = (
        f"dynamic_batching {{ max_queue_delay_microseconds: {_WAIT_MICROSECONDS} }}\n" if batch > 1 else ""
    )
    config = _CONFIG.format(
        name=folder.name,
        batch=batch,
        input=name,
        type=kind,
        dims=dims,
        outputs=",\n".join(rows),
        batching=batching,
    )
    work = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    try:
        (work / "1").mkdir(parents=True)
        (work / "config.pbtxt").write_text(config, encoding="utf-8")
        shutil.copyfile(bundle.path / graph, work / "1" / "model.onnx")
        for extra in external_files(bundle.path / graph):
            shutil.copyfile(bundle.path / extra, work / "1" / extra)
        sync_tree(work)
        work.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
