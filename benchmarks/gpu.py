"""Everything that a GPU is to be measured by, in one command; the same script runs on a CPU with small sizes.

    python benchmarks/gpu.py                                   # ViT-B/16, 32 frames, batches as in the recipes
    python benchmarks/gpu.py --device cpu --small              # proves that it works: a narrow tower, few frames
    python benchmarks/gpu.py --parts encoder training

encoder: frames per second of the vision tower: torch eager, compiled and with FlashAttention alone; ONNX Runtime with
IO binding, with CUDA graphs, and TensorRT. files: clips per second from video files, with the encoder's own time
beside it. training: clips per second of an update, eager and compiled, its share of the card's measured bf16 matrix
rate, and peak memory, in one process and in two; then what an update's time goes to. All engines of a table take
turns; medians. What is not there is said, not left out.
Weights are random: speed is that of real ones.
"""

import argparse
import io
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.codec.hwaccel import HWAccel
from ratios import camera
from train_step import make_batch, make_model, peak_memory, write_weights

from ga2clip.compute.distributed import join_group
from ga2clip.errors import first_line
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.runtime.engine import ON_CUDA
from ga2clip.runtime.ort import onnxruntime
from ga2clip.training.update import Updater
from ga2clip_export.export import export_model
from ga2clip_export.float16 import to_float16
from ga2clip_export.graphs import ATTENTION_OPSET, PLAIN_OPSET, export_video_encoder
from ga2clip_export.towers import FoldedVideoEncoder

Run = Callable[[], Any]
_DEFAULT = "ours, bf16, margin loss"
_WORK = {
    "matrix products": r"mm$|_linear|conv",
    "attention": "attention",
    "norms": "norm",
    "activation": "gelu|sigmoid",
    "copies and casts": "copy|cat$",
    "sums and other": "",
}
"""Kinds of work, and a pattern for torch's names of their operators."""
_CALL = 8  # clips that the encoder takes at once
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
    size, frames = model.preprocess.size, options.frames * min(options.clips, _CALL)
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
        exact = ON_CUDA if device.type == "cuda" else {}
        makers[f"{label}, IO binding"] = partial(session, _PROVIDERS[device.type], exact)
        makers[f"{label}, CUDA graphs"] = partial(
            session, _PROVIDERS["cuda"], exact | {"enable_cuda_graph": "1"}
        )
        if precision == "fp32":
            makers[f"{label}, TF32"] = partial(session, _PROVIDERS["cuda"], {})
        half = {"trt_fp16_enable": str(int(precision.startswith("fp16")))}
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
    size, frames = model.preprocess.size, options.frames
    sample = np.random.default_rng(1).integers(0, 256, (1, 2, size, size, 3), dtype=np.uint8)
    files = {}
    for label, opset in (("", PLAIN_OPSET), (", attention as one operator", ATTENTION_OPSET)):
        single, half = folder / f"fp32-{opset}.onnx", folder / f"fp16-{opset}.onnx"
        export_video_encoder(
            FoldedVideoEncoder(model), single, size=size, frames=frames, opset=opset, static=False
        )
        to_float16(single, half, {"frames": sample})
        files |= {f"fp32{label}": single, f"fp16{label}": half}
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
    model = make_model("ours", options).eval()
    precision = "fp16" if device.type == "cuda" else "fp32"
    sample = camera(folder / "sample.mp4", seconds=4)
    bundle = export_model(model, folder / "bundle", precision=precision, clips=[sample])
    opened: dict[str, Callable[[], Predictor]] = {
        f"bundle of {precision}": lambda: Predictor(bundle, provider=options.device, cache=False),
        "torch float32": lambda: Predictor(TorchModel(model, "random", device=options.device)),
    }
    files = [camera(folder / f"{n}.mp4", seconds=4) for n in range(options.files)]
    size = model.preprocess.size
    clips = np.random.default_rng(0).integers(0, 256, (4, options.frames, size, size, 3), dtype=np.uint8)
    yield "### Clips from files\n"
    yield "| model | decoding threads | clips/s | the encoder alone, clips/s | time × the encoder's |"
    yield "|---|---|---|---|---|"
    workers = sorted({1, 2, os.cpu_count() or 1})
    for name, opens in opened.items():
        with opens() as predictor:
            runs: dict[str, Run] = {"alone": lambda: predictor.encode_clips(clips)}
            for count in workers:
                runs[str(count)] = lambda count=count: list(predictor.predict_many(files, workers=count))
            seconds = median_seconds(runs, options.rounds, device)
        alone = len(clips) / seconds["alone"]
        for count in workers:
            rate = len(files) / seconds[str(count)]
            yield f"| {name} | {count} | {rate:.1f} | {alone:.1f} | {alone / rate:.2f} |"
    yield from ["", "Decoding alone, one file after another:", "", "| decoder | frames/s |", "|---|---|"]
    decoders: dict[str, Callable[[], Run]] = {
        "on the CPU, one thread": lambda: partial(decoded, files, None),
        "on the card (NVDEC)": lambda: partial(
            decoded, files, HWAccel("cuda", allow_software_fallback=False)
        ),
    }
    runs, missing = kept(decoders)
    count = decoded(files, None)
    for name, taken in median_seconds(runs, options.rounds, device).items():
        yield f"| {name} | {count / taken:.0f} |"
    yield from ["", *missing, ""]


def decoded(files: list[Path], card: HWAccel | None) -> int:
    """Decode all frames, those of a card are copied to memory. Returns their number."""
    count = 0
    for path in files:
        with av.open(f"file:{path}", hwaccel=card) as container:
            container.streams.video[0].thread_count = 1
            count += sum(1 for _ in container.decode(video=0))
    return count


def training_lines(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Clips per second of an update, in one process and in two."""
    yield "### Training, the default method\n"
    yield "| processes | clips/s | TFLOP/s | share of the measured bf16 matrix rate | peak memory of a process, GiB |"
    yield "|---|---|---|---|---|"
    shares: dict[str, float] = {}
    work = 0.0
    for count, variant in product((1, 2), (_DEFAULT, f"{_DEFAULT}, compiled")):
        label = f"{count}, compiled" if variant.endswith("compiled") else f"{count}"
        if options.device == "cuda" and torch.cuda.device_count() < count:
            yield f"| {label} | not measured: this machine has one GPU | | | |"
            continue
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), __file__]
        command += ["--parts", "update", "--variant", variant]
        command += ["--folder", str(folder), "--device", options.device]
        for name in ("backbone", "clips", "anchors", "frames", "classes", "prompts", "rounds"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            yield f"| {label} | not measured: {(done.stderr.strip().splitlines() or ['no output'])[-1][:160]} | | | |"
            continue
        found = json.loads(lines[-1])
        work, shares = work or found["work"], shares or found["shares"]
        rate = count * work / found["seconds"]
        share = f"{100 * rate / found['rate']:.0f} %"
        clips = count * options.clips / found["seconds"]
        yield f"| {label} | {clips:.2f} | {rate / 1e12:.3f} | {share} | {found['memory']:.2f} |"
    yield "\nWhat the time of an update goes to, one process, not compiled:\n"
    yield "| work | % |"
    yield "|---|---|"
    for name, percent in shares.items():
        yield f"| {name} | {percent:.1f} |"
    yield ""


def update(options: argparse.Namespace) -> None:
    """In each process of `training_lines`: the first prints what it measured."""
    with join_group(options.device) as group:
        model = make_model(options.variant, options)
        updater = Updater(model.to(group.device), group)
        batch = make_batch(options, model)
        plain = not model.settings.training.compile
        # A compiled model would stay as it is after a first call in which operators are counted.
        work = operations(lambda: updater.run(batch, 0, factor=0.0)) if plain else 0
        step: dict[str, Run] = {"update": lambda: updater.run(batch, 0, factor=0.0)}
        seconds = median_seconds(step, options.rounds, group.device)["update"]
        memory = peak_memory(group.device)
        rate = group.size * matrix_rate(group.device, options)
        if group.is_first:
            measured: dict[str, Any] = {"work": work, "seconds": seconds, "rate": rate, "memory": memory}
            alone = plain and group.size == 1
            measured["shares"] = time_shares(step["update"], seconds, group.device) if alone else {}
            print(json.dumps(measured), flush=True)


def operations(run: Run) -> int:
    """Floating-point operations of the matrix products and attentions of a call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def time_shares(run: Run, seconds: float, device: torch.device) -> dict[str, float]:
    """What the time of a call goes to, in percent by kind of work; on a GPU also how much of its `seconds` it works."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        run()
        wait(device)
    spent = dict.fromkeys(_WORK, 0.0)
    for event in profiler.key_averages():
        taken = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        kind = next(kind for kind, pattern in _WORK.items() if re.search(pattern, event.key))
        if (
            event.key.startswith("aten::") or not on_gpu
        ):  # a GPU's kernels are listed once more by their own names
            spent[kind] += taken / 1e6
    total = sum(spent.values())
    shares = {kind: 100 * seconds / total for kind, seconds in spent.items()}
    return {**shares, "(of an update, the GPU works)": 100 * total / seconds} if on_gpu else shares


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
    for name, value in (("clips", 16), ("anchors", 2), ("frames", 32), ("classes", 101), ("prompts", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
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
    batch = f"{options.clips} clips and {options.anchors} anchors of {options.frames} frames"
    print(f"{machine(device)}; {options.backbone}, {batch}\n")
    with tempfile.TemporaryDirectory() as folder:
        options.folder = folder
        write_weights(options.backbone, options)
        for part in options.parts:
            for line in PARTS[part](options, Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
