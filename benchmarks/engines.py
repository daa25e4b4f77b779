"""One video encoder in every engine and precision at hand, beside torch, in one process.

    python benchmarks/engines.py ViT-B-16 CLIP… --work bench
    python benchmarks/engines.py ViT-B-32 CLIP… --work bench --rounds 7

Weights are random in OpenAI's file format, prompts are random. This is what the conversion to int8 was chosen on:
weights of 7 bits (as bundles have them) and of 8, ONNX Runtime's own conversion, and OpenVINO where it is installed.
All engines take turns in every round; prints Markdown.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from runtime import encoder_gflop, make_run, matrix_rate

from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import load_run
from ga2clip.runtime.engine import open_engine
from ga2clip.runtime.scoring import normalise
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export import activations
from ga2clip_export.graphs import ATTENTION_OPSET, PLAIN_OPSET, export_video_encoder
from ga2clip_export.quantise import to_int8
from ga2clip_export.towers import FoldedVideoEncoder

_FRAMES = 8
Encode = Callable[[np.ndarray], np.ndarray]


def build(model: VideoCLIP, folder: Path) -> dict[str, Path]:
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
    return files


def engines(model: VideoCLIP, files: dict[str, Path], threads: int) -> dict[str, Encode]:
    """Functions of a clip uint8 (1, T, S, S, 3) → its feature (1, D), by name; torch first."""

    @torch.no_grad()
    def eager(clip: np.ndarray) -> np.ndarray:
        return model.encode_video(torch.from_numpy(model.preprocess.normalise(clip))).numpy()

    encoders: dict[str, Encode] = {"torch fp32, eager": eager}
    for name, path in files.items():
        encoders[name] = _encode_with(path, "cpu", threads)
    if find_spec("openvino"):
        for name in ("ONNX fp32", "ONNX int8, weights of 7 bits"):
            encoders[name.replace("ONNX", "OpenVINO")] = _encode_with(files[name], "openvino", threads)
    return encoders


def _encode_with(path: Path, provider: str, threads: int) -> Encode:
    engine = open_engine(path, provider, threads=threads)
    return lambda clip: engine.run({"frames": clip})["video_features"]


def table(
    encoders: dict[str, Encode], clips: Sequence[np.ndarray], rounds: int
) -> tuple[str, dict[str, float]]:
    """A Markdown table, and the median seconds of a clip by engine."""
    truth = None
    cosines: dict[str, float] = {}
    for name, encode in encoders.items():
        features = normalise(np.concatenate([encode(clip) for clip in clips]))
        truth = features if truth is None else truth
        cosines[name] = float((features * truth).sum(axis=1).min())
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(rounds):
        for name, encode in encoders.items():
            start = time.perf_counter()
            encode(clips[number % len(clips)])
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    first = next(iter(medians.values()))
    lines = ["| engine | ms/frame | × | min cosine to torch |", "|---|---|---|---|"]
    for name, seconds in medians.items():
        cells = [name, f"{1e3 * seconds / _FRAMES:.1f}", f"{first / seconds:.2f}", f"{cosines[name]:.5f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines), medians


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backbone")
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("bench"))
    options = parser.parse_args()
    folder = options.work / f"engines-{options.backbone}"
    folder.mkdir(parents=True, exist_ok=True)
    run = make_run(options.work, options.backbone)
    model = load_run(run).model().eval()
    files = build(model, folder)
    rule, pixels = SamplingRule(frames=_FRAMES), model.preprocess
    clips = [
        pixels.frames(sample_frames(path, rule, size=pixels.size).frames)[None] for path in options.clips
    ]
    text, medians = table(engines(model, files, options.threads), clips, options.rounds)
    load = os.getloadavg()[0]
    print(f"### {options.backbone}, {len(clips)} clips of {_FRAMES} frames, load {load:.1f}\n\n{text}\n")
    gflop, tokens, width = encoder_gflop(run, _FRAMES)
    rate, reached = matrix_rate(tokens, width, options.threads, options.rounds), gflop / medians["ONNX fp32"]
    print(
        f"Matrix ceiling {rate:.0f} GFLOP/s; the fp32 encoder reaches {reached:.0f} ({100 * reached / rate:.0f} %)."
    )


if __name__ == "__main__":
    main()
