"""Bundles against torch, on this machine, in one run: encoders, whole predictions, long video, many class
names.

    python benchmarks/runtime.py --work bench                        # tiny, ViT-B/32 and ViT-B/16, random prompts
    python benchmarks/runtime.py --backbones tiny --rounds 9 --threads 1
    python benchmarks/runtime.py --reject runs/ga2/bundle data/stickfigures     # how good "none of these" is

The ViTs have random weights in OpenAI's file format: their speed is that of the real ones, their agreement
is not. Runs and bundles are kept in --work and used again. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from ga2clip.data.manifest import Manifest
from ga2clip.data.stickfigures.classes import CLASSES
from ga2clip.data.stickfigures.empty import EMPTY_KINDS
from ga2clip.data.stickfigures.render import render_empty
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import build_model
from ga2clip.run import load_run, write_run
from ga2clip.runtime import Predictor, is_bundle
from ga2clip.runtime.engine import open_engine
from ga2clip.runtime.scoring import rejection_margin
from ga2clip.settings import Settings
from ga2clip.video import SamplingRule, sample_frames, sample_indices, write_video
from ga2clip_export.bench import bench
from ga2clip_export.export import export_run

TIMELINE = """
import json, sys
from ga2clip_export.bench import peak_memory
from ga2clip.runtime import Predictor
from ga2clip.runtime.timeline import timeline
bundle, clip, stride, threads = json.loads(sys.argv[1])
with Predictor(bundle, provider="cpu", threads=threads, cache=False) as predictor:
    result = timeline(predictor, clip, window=2.0, stride=stride, fps=4.0)
print(json.dumps([result.encoded_frames, peak_memory()]))
"""


def make_run(work: Path, backbone: str) -> Path:
    """A GA2 run with random prompts: on the built-in backbone, or on a random one in OpenAI's file format."""
    folder = work / f"run-{backbone}"
    if folder.exists():
        return folder
    torch.manual_seed(0)
    chosen = {"name": backbone, "pretrained": "builtin"}
    if backbone != "tiny":
        import open_clip

        weights = work / f"{backbone}.safetensors"
        clip = open_clip.create_model(f"{backbone}-quickgelu")
        save_file(
            {k: v.half() if v.is_floating_point() else v for k, v in clip.state_dict().items()}, weights
        )
        chosen |= {"name": f"{backbone}-quickgelu", "pretrained": str(weights)}
    settings = Settings().updated({**method_settings("ga2"), "backbone": chosen}, "benchmark")
    loaded = load_backbone(settings.backbone)
    hard = torch.randn(settings.method.text_length, loaded.text.width) * 0.02
    return write_run(folder, settings, build_model(loaded, settings, CLASSES, hard).eval())


def make_bundle(run: Path, precision: str, clips: Sequence[Path] = ()) -> Path:
    """clips: what agreement with torch is measured on, instead of the built-in drawings."""
    folder = run.with_name(run.name.replace("run-", "") + f"-{precision}")
    if not is_bundle(folder):
        start = time.perf_counter()
        export_run(run, folder, precision=precision, clips=clips)
        print(f"<!-- exported {folder.name} in {time.perf_counter() - start:.0f} s -->", flush=True)
    return folder


def matrix_rate(tokens: int, width: int, threads: int, rounds: int) -> float:
    """GFLOP/s of ONNX Runtime's float32 MatMul with the shape of the MLP: the ceiling of an encoder."""
    weight = numpy_helper.from_array(
        np.random.default_rng(0).normal(size=(width, 4 * width)).astype(np.float32), "w"
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [tokens, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [tokens, 4 * width])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path)
        )
        engine = open_engine(path, "cpu", threads=threads)
        values = np.random.default_rng(1).normal(size=(tokens, width)).astype(np.float32)
        times = []
        for _ in range(10 * rounds):
            start = time.perf_counter()
            engine.run({"x": values})
            times.append(time.perf_counter() - start)
    return 2 * tokens * width * 4 * width / statistics.median(times) / 1e9


def encoder_gflop(run: Path, frames: int) -> tuple[float, int, int]:
    """(GFLOP of the matrix products for a clip, tokens of a clip, width) of a run's vision tower with its
    prompts.
    """
    model = load_run(run).model()
    tower, visual = model.backbone.vision, model.backbone.vision.visual
    tokens = len(visual.positional_embedding) + model.settings.method.vision_length
    width, depth, patch = tower.width, tower.depth, 3 * visual.conv1.kernel_size[0] ** 2
    block = 12 * width * width * tokens + 2 * tokens * tokens * width
    last = width * (2 * width * tokens + 10 * width) + 2 * tokens * width  # the class token alone is finished
    products = (depth - 1) * block + last + patch * width * (len(visual.positional_embedding) - 1)
    return 2 * frames * products / 1e9, frames * tokens, width


def long_video(folder: Path, seconds: int) -> Path:
    path = folder / f"long_{seconds}.mp4"
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    write_video(path, (np.roll(picture, index, axis=1) for index in range(10 * seconds)), 10, crf=30)
    return path


def show_encoders(
    work: Path, backbones: list[str], precisions: list[str], rounds: int, threads: int, clips: list[Path]
) -> None:
    for backbone in backbones:
        run = make_run(work, backbone)
        bundles = [make_bundle(run, precision, clips) for precision in precisions]
        report = bench(bundles, clips, rounds=rounds, run=run, threads=threads)
        print(f"\n### {backbone}\n\n{report.table()}\n", flush=True)
        gflop, tokens, width = encoder_gflop(run, report.frames)
        rate = matrix_rate(tokens, width, threads, rounds)
        fp32 = next(row for row in report.rows if row.engine == "ONNX fp32")
        reached = gflop / statistics.median(fp32.encode)
        print(
            f"Matrix ceiling (ONNX Runtime float32 MatMul, {tokens}×{width}×{4 * width}): {rate:.0f} GFLOP/s; the fp32 "
            f"encoder reaches {reached:.0f} GFLOP/s ({100 * reached / rate:.0f} %), counting its products only.",
            flush=True,
        )
        whole = statistics.median(report.decode) + statistics.median(report.preprocess)
        share = whole / (whole + statistics.median(fp32.encode))
        print(f"Decoding and preprocessing are {100 * share:.0f} % of an fp32 prediction.", flush=True)


def show_timeline(bundle: Path, threads: int) -> None:
    print("\n### Long video (tiny, 4 frames per second, window 2 s)\n")
    print("| video | stride s | frames encoded | seconds × 4 | peak MiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (60, 600):
            clip = long_video(Path(folder), seconds)
            for stride in (0.5, 0.1):
                question = json.dumps([str(bundle), str(clip), stride, threads])
                done = subprocess.run(
                    [sys.executable, "-c", TIMELINE, question], capture_output=True, text=True, check=True
                )
                frames, memory = json.loads(done.stdout)
                print(f"| {seconds} s | {stride} | {frames} | {4 * seconds} | {memory:.0f} |", flush=True)


def show_names(bundle: Path, threads: int) -> None:
    print("\n### 1,000 new class names (tiny)\n")
    names = [
        f"{verb} {thing} number {i}"
        for i in range(25)
        for verb in ("lifting", "painting")
        for thing in CLASSES[:20]
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GA2CLIP_CACHE"] = folder
        for what in ("computed", "from the cache"):
            with Predictor(bundle, provider="cpu", threads=threads) as predictor:
                start = time.perf_counter()
                predictor.encode_classes(names)
                print(f"{what}: {time.perf_counter() - start:.2f} s", flush=True)


def auroc(above: np.ndarray, below: np.ndarray) -> float:
    """Probability that a value of `above` is larger than one of `below`."""
    ranks = np.concatenate([above, below]).argsort().argsort()[: len(above)]
    return float((ranks.sum() - len(above) * (len(above) - 1) / 2) / (len(above) * len(below)))


def show_reject(bundle: Path, root: Path, threads: int) -> None:
    """How well "none of these" tells the test clips of `stickfigures` from new irrelevant ones."""
    manifest = Manifest.read(root)
    print("\n### None of these\n")
    columns = ["classes", "test clips", "AUROC of the margin", "AUROC of the best probability", "kept"]
    columns += ["right, all", "right, kept", "irrelevant clips rejected"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    with Predictor(bundle, provider="cpu", threads=threads, cache=False) as predictor:
        rule = SamplingRule(frames=predictor.model.frames)
        drawn = (render_empty(kind, 10_000 + seed) for seed in range(40) for kind in EMPTY_KINDS)
        empty = encode_all(predictor, (clip[sample_indices(len(clip), rule).ravel()] for clip in drawn))
        for name in ("base", "novel"):
            asked = [c for c in manifest.classes if (c in manifest.base_classes) == (name == "base")]
            clips = [clip for clip in manifest.clips if clip.split == "test" and clip.label in asked]
            shown = encode_all(predictor, (sample_frames(root / clip.path, rule).frames for clip in clips))
            scorer, plain = predictor.scorer(asked, reject=True), predictor.scorer(asked)
            margins = [rejection_margin(part, scorer.features, scorer.negatives) for part in (shown, empty)]
            ranked = [plain.probabilities(part) for part in (shown, empty)]
            kept = margins[0] >= scorer.threshold
            right = ranked[0].argmax(axis=1) == [asked.index(str(clip.label)) for clip in clips]
            cells = [
                auroc(*margins),
                auroc(*(part.max(axis=1) for part in ranked)),
                kept.mean(),
                right.mean(),
            ]
            cells += [right[kept].mean(), (margins[1] < scorer.threshold).mean()]
            print(
                f"| {name} ({len(asked)}) | {len(clips)} | {' | '.join(f'{c:.3f}' for c in cells)} |",
                flush=True,
            )


def encode_all(predictor: Predictor, clips: Iterable[np.ndarray]) -> np.ndarray:
    """Frames (T, H, W, 3) of several clips → their features (N, D)."""
    return np.stack([predictor.encode_clips(predictor.prepare(clip)[None])[0] for clip in clips])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=["tiny", "ViT-B-32", "ViT-B-16"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("bench"))
    parser.add_argument(
        "--reject", nargs=2, type=Path, metavar=("BUNDLE", "DATA"), help="trained bundle, stickfigures"
    )
    options = parser.parse_args()
    if options.reject:
        show_reject(*options.reject, options.threads)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    show_encoders(
        options.work, options.backbones, options.precisions, options.rounds, options.threads, options.clips
    )
    if "tiny" in options.backbones:
        bundle = make_bundle(make_run(options.work, "tiny"), "fp32")
        show_timeline(bundle, options.threads)
        show_names(bundle, options.threads)


if __name__ == "__main__":
    main()
