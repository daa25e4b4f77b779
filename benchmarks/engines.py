"""One video encoder in every engine and precision at hand, beside torch, in one process.

    python benchmarks/engines.py ViT-B-16 CLIP… --work bench
    python benchmarks/engines.py ViT-B-32 CLIP… --work bench --rounds 7
    python benchmarks/engines.py ViT-B-16 CLIP… --work bench --batch 4 --only "torch fp32" "OpenVINO int8, weights of 7"

Weights are random in OpenAI's file format, prompts are random. This is what the conversion to int8 was chosen on:
weights of 7 bits (as bundles have them) and of 8, ONNX Runtime's own conversion; where they are installed OpenVINO, and
static ranges by NNCF, measured on the clips. All engines take turns in every round; prints Markdown. CPU time is for
machines that do other work as well.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import torch
from runtime import encoder_gflop, make_run, matrix_rate

from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import load_run
from ga2clip.runtime.engine import open_engine
from ga2clip.runtime.scoring import normalise
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export import activations
from ga2clip_export.graphs import ATTENTION_OPSET, PLAIN_OPSET, export_video_encoder, save
from ga2clip_export.quantise import to_int8
from ga2clip_export.towers import FoldedVideoEncoder

_FRAMES = 8
_CALIBRATION_FRAMES = 2
"""Of each clip. NNCF runs the float32 encoder on them."""
Encode = Callable[[np.ndarray], np.ndarray]


def build(model: VideoCLIP, folder: Path, clips: Sequence[np.ndarray]) -> dict[str, Path]:
    """Graphs by name; those that are there already are kept."""
    files = {
        "ONNX fp32": folder / "fp32.onnx",
        "ONNX int8, weights of 7 bits": folder / "int7.onnx",
        "ONNX int8, weights of 8 bits": folder / "int8.onnx",
        "ONNX int8, ONNX Runtime's own conversion": folder / "own.onnx",
    }
    fp32, seven, eight, own = files.values()
    attention = folder / "attention.onnx"
    encoder, size = FoldedVideoEncoder(model), model.preprocess.size
    for path, opset in ((fp32, PLAIN_OPSET), (attention, ATTENTION_OPSET)):
        if not path.exists():
            export_video_encoder(encoder, path, size=size, frames=_FRAMES, opset=opset, static=False)
    for path, largest in ((seven, 64), (eight, 127)):
        if not path.exists():
            with mock.patch.object(activations, "_S7_LARGEST", largest):
                to_int8(attention, path, {}, lambda _: True)
    if not own.exists():
        # By name, when our own modules have loaded ONNX Runtime without its telemetry.
        quantization = import_module("onnxruntime.quantization")
        kind = quantization.QuantType.QInt8
        quantization.quantize_dynamic(
            attention, own, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=kind
        )
    if find_spec("nncf"):
        files |= static_ranges(fp32, folder, clips)
    return files


def static_ranges(fp32: Path, folder: Path, clips: Sequence[np.ndarray]) -> dict[str, Path]:
    """The graph with NNCF's quantisation after training, weights and activations, attention included."""
    import nncf

    files = {}
    for preset in nncf.QuantizationPreset:
        path = files[f"ONNX int8, NNCF {preset.value}"] = folder / f"nncf-{preset.value}.onnx"
        if not path.exists():
            shown = nncf.Dataset([{"frames": clip[:, :_CALIBRATION_FRAMES]} for clip in clips])
            kind = nncf.ModelType.TRANSFORMER
            graph = nncf.quantize(
                onnx.load(str(fp32)), shown, preset=preset, model_type=kind, subset_size=len(clips)
            )
            save(graph, path)
    return files


def engines(model: VideoCLIP, files: dict[str, Path], threads: int, only: Sequence[str]) -> dict[str, Encode]:
    """Functions of clips uint8 (B, T, S, S, 3) → their features (B, D), by name; torch first.

    only: how the names begin of those that are opened; none: all.
    """

    @torch.no_grad()
    def eager(clips: np.ndarray) -> np.ndarray:
        return model.encode_video(torch.from_numpy(model.preprocess.normalise(clips))).float().numpy()

    def autocast(clips: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return eager(clips)

    found: dict[str, Callable[[], Encode]] = {
        "torch fp32, eager": lambda: eager,
        "torch bf16, autocast": lambda: autocast,
    }
    for name, path in files.items():
        found[name] = partial(_encode_with, path, "cpu", threads)
    if find_spec("openvino"):
        for name, path in files.items():
            found[name.replace("ONNX", "OpenVINO", 1)] = partial(_encode_with, path, "openvino", threads)
    return {name: make() for name, make in found.items() if not only or name.startswith(tuple(only))}


def _encode_with(path: Path, provider: str, threads: int) -> Encode:
    engine = open_engine(path, provider, threads=threads)
    return lambda clips: engine.run({"frames": clips})["video_features"]


def table(
    encoders: dict[str, Encode], clips: Sequence[np.ndarray], rounds: int, batch: int
) -> tuple[str, dict[str, float]]:
    """A Markdown table, and the median seconds of a call by engine. batch: copies of a clip in a call."""
    truth = None
    cosines: dict[str, float] = {}
    for name, encode in encoders.items():
        features = normalise(np.concatenate([encode(clip) for clip in clips]))
        truth = features if truth is None else truth
        cosines[name] = float((features * truth).sum(axis=1).min())
    walls: dict[str, list[float]] = {name: [] for name in encoders}
    cpus: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(rounds):
        for name, encode in encoders.items():
            together = np.repeat(clips[number % len(clips)], batch, axis=0)
            wall, cpu = time.perf_counter(), time.process_time()
            encode(together)
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    wall_of, cpu_of = ({name: statistics.median(t) for name, t in taken.items()} for taken in (walls, cpus))
    first = next(iter(encoders))
    lines = [
        "| engine | ms/frame | × | CPU ms/frame | × | min cosine to torch |",
        "|---|---|---|---|---|---|",
    ]
    for name in encoders:
        cells = [name]
        for of in (wall_of, cpu_of):
            cells += [f"{1e3 * of[name] / _FRAMES / batch:.1f}", f"{of[first] / of[name]:.2f}"]
        lines.append(f"| {' | '.join([*cells, f'{cosines[name]:.5f}'])} |")
    return "\n".join(lines), wall_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backbone")
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1, help="clips in a call")
    parser.add_argument("--only", nargs="+", default=(), help="how the names of the engines begin")
    parser.add_argument("--work", type=Path, default=Path("bench"))
    options = parser.parse_args()
    folder = options.work / f"engines-{options.backbone}"
    folder.mkdir(parents=True, exist_ok=True)
    run = make_run(options.work, options.backbone)
    model = load_run(run).model().eval()
    rule, pixels = SamplingRule(frames=_FRAMES), model.preprocess
    clips = [
        pixels.frames(sample_frames(path, rule, size=pixels.size).frames)[None] for path in options.clips
    ]
    if options.threads:
        torch.set_num_threads(options.threads)
    files = build(model, folder, clips)
    encoders = engines(model, files, options.threads, options.only)
    text, medians = table(encoders, clips, options.rounds, options.batch)
    load = os.getloadavg()[0]
    print(f"### {options.backbone}, {len(clips)} clips of {_FRAMES} frames, load {load:.1f}\n\n{text}\n")
    if "ONNX fp32" not in medians:
        return
    gflop, tokens, width = encoder_gflop(run, _FRAMES)
    rate = matrix_rate(tokens, width, options.threads, options.rounds)
    reached = options.batch * gflop / medians["ONNX fp32"]
    print(
        f"Matrix ceiling {rate:.0f} GFLOP/s; the fp32 encoder reaches {reached:.0f} ({100 * reached / rate:.0f} %)."
    )


if __name__ == "__main__":
    main()
