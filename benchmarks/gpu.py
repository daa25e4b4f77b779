"""Everything that a GPU is to be measured by, in one command; the same script runs on a CPU with small sizes.

    python benchmarks/gpu.py                                   # ViT-B/16, 32 frames, on CUDA
    python benchmarks/gpu.py --device cpu --small              # proves that it works: a narrow tower, few frames
    python benchmarks/gpu.py --parts encoder training

encoder: frames per second of the vision tower: torch eager, compiled and with FlashAttention alone; ONNX Runtime with
IO binding, with CUDA graphs, and TensorRT. files: clips per second from video files, with the encoder's own time
beside it. training: clips per second of an update, its share of the card's measured bf16 matrix rate, and peak memory,
in one process and in two. All engines of a table take turns; medians. What is not there is said, not left out.
Weights are random: speed is that of real ones.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ratios import camera
from train_step import make_batch, make_model, peak_memory, write_weights

from ga2clip.compute.distributed import join_group
from ga2clip.errors import first_line
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.ort import onnxruntime
from ga2clip.training.update import Updater
from ga2clip_export.float16 import to_float16
from ga2clip_export.graphs import PLAIN_OPSET, export_video_encoder
from ga2clip_export.towers import FoldedVideoEncoder

Run = Callable[[], Any]
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def median_seconds(runs: dict[str, Run], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds by name; all take turns, and a first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            wait(device)
            started = time.perf_counter()
            run()
            wait(device)
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def kept(makers: dict[str, Callable[[], Run]]) -> tuple[dict[str, Run], list[str]]:
    """The engines that this machine has, tried once, and why it lacks the others."""
    runs, missing = {}, []
    for name, make in makers.items():
        try:
            runs[name] = make()
            runs[name]()
        except Exception as error:
            runs.pop(name, None)
            missing.append(f"* {name}: not measured, {first_line(error)[:160]}")
    return runs, missing


def encoder_lines(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Frames per second of the vision tower in every engine."""
    device = torch.device(options.device)
    model = make_model("ours", options).eval().to(device)
    size, frames = model.preprocess.size, options.frames * options.clips
    pixels = torch.randn(frames, 3, size, size, device=device)
    makers: dict[str, Callable[[], Run]] = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        label = f"torch {str(dtype).removeprefix('torch.')}"
        own = partial(in_torch, model, pixels, dtype)
        makers[f"{label}, eager"] = own
        makers[f"{label}, FlashAttention alone"] = partial(own, flash=True)
        makers[f"{label}, compiled"] = partial(own, compiled=True)
    clip = np.random.default_rng(0).integers(0, 256, (1, frames, size, size, 3), dtype=np.uint8)
    for precision, path in exported(model, options, folder).items():
        label, session = f"ONNX Runtime {precision}", partial(bound, path, clip, device)
        makers[f"{label}, IO binding"] = partial(session, _PROVIDERS[device.type], {})
        makers[f"{label}, CUDA graphs"] = partial(session, _PROVIDERS["cuda"], {"enable_cuda_graph": "1"})
        half = {"trt_fp16_enable": str(int(precision == "fp16"))}
        makers[f"{label}, TensorRT"] = partial(session, "TensorrtExecutionProvider", half)
    runs, missing = kept(makers)
    seconds = median_seconds(runs, options.rounds, device)
    first = seconds["torch float32, eager"]
    yield f"### Encoder, {frames} frames in a call\n"
    yield "| engine | frames/s | × torch eager float32 |"
    yield "|---|---|---|"
    for name, taken in seconds.items():
        yield f"| {name} | {frames / taken:.0f} | {first / taken:.2f} |"
    yield from ["", *missing, ""]


def in_torch(
    model: VideoCLIP, pixels: torch.Tensor, dtype: torch.dtype, *, flash: bool = False, compiled: bool = False
) -> Run:
    """The vision tower in torch."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    encode = torch.compile(model.encode_frames) if compiled else model.encode_frames

    @torch.no_grad()
    def run() -> torch.Tensor:
        attention = sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else nullcontext()
        cast = nullcontext() if dtype == torch.float32 else torch.autocast(pixels.device.type, dtype)
        with attention, cast:
            return encode(pixels[None])

    return run


def exported(model: VideoCLIP, options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The video encoder as ONNX files of float32 and float16."""
    model = model.cpu()
    files = {"fp32": folder / "fp32.onnx", "fp16": folder / "fp16.onnx"}
    size, frames = model.preprocess.size, options.frames
    export_video_encoder(
        FoldedVideoEncoder(model), files["fp32"], size=size, frames=frames, opset=PLAIN_OPSET, static=False
    )
    sample = np.random.default_rng(1).integers(0, 256, (1, 2, size, size, 3), dtype=np.uint8)
    to_float16(files["fp32"], files["fp16"], {"frames": sample})
    model.to(options.device)
    return files


def bound(path: Path, clip: np.ndarray, device: torch.device, provider: str, options: dict[str, str]) -> Run:
    """A graph whose input and outputs stay on the device. Raises RuntimeError when the provider can't be had."""
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"this ONNX Runtime has no {provider}")
    onnxruntime.set_default_logger_severity(4)  # what does not load is in the table's notes
    with redirect_stdout(io.StringIO()):
        session = onnxruntime.InferenceSession(str(path), providers=[(provider, options)])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} does not load here")
    binding = session.io_binding()
    place = ("cuda", 0) if device.type == "cuda" else ("cpu", 0)
    binding.bind_ortvalue_input("frames", onnxruntime.OrtValue.ortvalue_from_numpy(clip, *place))
    shapes = {"frame_features": clip.shape[:2], "video_features": clip.shape[:1]}
    for output in session.get_outputs():  # CUDA graphs need outputs that stay where they are
        shape = [*shapes[output.name], output.shape[-1]]
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, *place)
        binding.bind_ortvalue_output(output.name, value)
    return lambda: session.run_with_iobinding(binding)


def file_lines(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Clips per second from video files, decoded on the CPU ahead of the encoder, and the encoder's own."""
    from ga2clip.evaluation.torch_model import TorchModel
    from ga2clip.runtime import Predictor

    device = torch.device(options.device)
    model = TorchModel(make_model("ours", options).eval(), "random", device=options.device, threads=0)
    files = [camera(folder / f"{n}.mp4", seconds=4) for n in range(options.files)]
    size = model.preprocess.size
    clips = np.random.default_rng(0).integers(0, 256, (4, options.frames, size, size, 3), dtype=np.uint8)
    yield "### Clips from files\n"
    yield "| decoding threads | clips/s | the encoder alone, clips/s | time × the encoder's |"
    yield "|---|---|---|---|"
    workers = sorted({1, 2, os.cpu_count() or 1})
    with Predictor(model, classes=["a", "b"]) as predictor:
        runs: dict[str, Run] = {"alone": lambda: predictor.encode_clips(clips)}
        for count in workers:
            runs[str(count)] = lambda count=count: list(predictor.predict_many(files, workers=count))
        seconds = median_seconds(runs, options.rounds, device)
    alone = len(clips) / seconds["alone"]
    for count in workers:
        rate = len(files) / seconds[str(count)]
        yield f"| {count} | {rate:.1f} | {alone:.1f} | {alone / rate:.2f} |"
    yield "\nNot measured: decoding on the card (NVDEC), which PyAV's wheels do not bring.\n"


def training_lines(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Clips per second of an update, in one process and in two."""
    yield "### Training, the default method\n"
    yield "| processes | clips/s | TFLOP/s | share of the measured bf16 matrix rate | peak memory of a process, GiB |"
    yield "|---|---|---|---|---|"
    for count in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
        command += [__file__, "--parts", "update", "--folder", str(folder), "--device", options.device]
        for name in ("backbone", "clips", "anchors", "frames", "classes", "prompts", "rounds"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            yield f"| {count} | not measured: {(done.stderr.strip().splitlines() or ['no output'])[-1][:160]} | | | |"
            continue
        found = json.loads(lines[-1])
        share = f"{100 * found['flops'] / found['rate']:.0f} %"
        yield (
            f"| {count} | {found['clips']:.2f} | {found['flops'] / 1e12:.3f} | {share} | {found['memory']:.2f} |"
        )
    yield ""


def update(options: argparse.Namespace) -> None:
    """In each process of `training_lines`: the first prints what was measured, over all processes."""
    from torch.utils.flop_counter import FlopCounterMode

    with join_group(options.device) as group:
        model = make_model("ours, bf16, margin loss", options)
        updater = Updater(model.to(group.device), group)
        batch = make_batch(options, model)
        with FlopCounterMode(display=False) as counter:
            updater.run(batch, 0, factor=0.0)
        step: dict[str, Run] = {"update": lambda: updater.run(batch, 0, factor=0.0)}
        seconds = median_seconds(step, options.rounds, group.device)["update"]
        rate = matrix_rate(group.device, options)
        if group.is_first:
            each = {"flops": counter.get_total_flops() / seconds, "clips": options.clips / seconds}
            total = {name: value * group.size for name, value in each.items()}
            measured = {**total, "rate": rate * group.size, "memory": peak_memory(group.device)}
            print(json.dumps(measured), flush=True)


def matrix_rate(device: torch.device, options: argparse.Namespace) -> float:
    """FLOP/s of a bfloat16 product with the shape of an MLP: all tokens of a batch, 768 → 3072 channels."""
    tokens, width = 197 * options.frames * options.clips, 768
    x = torch.randn(tokens, width, device=device, dtype=torch.bfloat16)
    weight = torch.randn(width, 4 * width, device=device, dtype=torch.bfloat16)
    seconds = median_seconds({"product": lambda: x @ weight}, 5 * options.rounds, device)["product"]
    return 2 * tokens * width * 4 * width / seconds


PARTS = {"encoder": encoder_lines, "files": file_lines, "training": training_lines}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tower of 256 channels, few frames")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "update"], default=list(PARTS))
    parser.add_argument("--backbone", default="ViT-B-16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=32)
    for name, value in (("clips", 8), ("anchors", 1), ("frames", 32), ("classes", 101), ("prompts", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        options.backbone, options.clips, options.frames, options.classes = "256x96", 2, 2, 10
        options.rounds, options.files, options.prompts = 3, 6, 4
    return options


def machine(device: torch.device) -> str:
    """One line: card or processor, and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    return f"{name}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"


def main() -> None:
    options = arguments()
    if options.parts == ["update"]:
        update(options)
        return
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; to try the script itself: --device cpu --small")
    print(f"{machine(device)}; {options.backbone}, {options.clips} clips of {options.frames} frames\n")
    with tempfile.TemporaryDirectory() as folder:
        options.folder = folder
        write_weights(options.backbone, options)
        for part in options.parts:
            for line in PARTS[part](options, Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
