"""Milliseconds per frame of a small member of every backbone family, beside ViT-B/32, in one process.

    python benchmarks/backbones.py --work bench --threads 2 --rounds 7
    python benchmarks/backbones.py ViT-B-32 PE-Core-T-16-384 --work bench

Vision towers of open_clip's own sizes with random weights, exported as bundles have them: fp32 and int8 in ONNX Runtime
and, where it is installed, OpenVINO. All engines take turns in every round; prints Markdown. With random weights int8
keeps its speed, but nothing is said of its accuracy.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.backbone_table import backbone_table
from ga2clip.model.blueprint import blueprint_of_name, usual_pixels
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.runtime.engine import open_engine
from ga2clip.settings import Settings
from ga2clip_export.graphs import ATTENTION_OPSET, PLAIN_OPSET, export_video_encoder
from ga2clip_export.quantise import to_int8
from ga2clip_export.towers import FoldedVideoEncoder

NAMES = (
    "ViT-B-32",
    "ViT-B-16",
    "PE-Core-T-16-384",
    "ViT-B-32-SigLIP2-256",
    "EVA02-B-16",
    "MobileCLIP-B",
    "MobileCLIP2-S0",
    "RN50",
    "convnext_base",
)
_FRAMES = 8
_SMALL_TEXT = {"vocab_size": 49408, "layers": 1, "width": 64, "heads": 1, "hf_tokenizer_name": None}
"""The text tower is not measured."""


def model_of(name: str) -> VideoCLIP:
    """The architecture with random weights and a small text tower."""
    torch.manual_seed(0)
    blueprint = blueprint_of_name(name)
    config = dict(blueprint.config)
    config["text_cfg"] = {**config["text_cfg"], **_SMALL_TEXT}
    clip = replace(blueprint, config=config).build()
    pixels = usual_pixels(name) or blueprint.pixels
    backbone = Backbone(clip, name=name, licence="random weights", preprocess=pixels)
    settings = Settings().updated(method_settings("zero-shot"), "the benchmark")
    return build_model(backbone, settings, ["a", "b"]).eval()


def graphs(name: str, folder: Path) -> dict[str, Path]:
    """The exported video encoder by precision; files that are there already are kept."""
    files = {"fp32": folder / f"{name}.fp32.onnx", "int8": folder / f"{name}.int8.onnx"}
    if not all(path.exists() for path in files.values()):
        model = model_of(name)
        encoder, size = FoldedVideoEncoder(model), model.preprocess.size
        attention = folder / f"{name}.attention.onnx"
        for path, opset in ((files["fp32"], PLAIN_OPSET), (attention, ATTENTION_OPSET)):
            export_video_encoder(encoder, path, size=size, frames=_FRAMES, opset=opset, static=False)
        to_int8(attention, files["int8"], {}, lambda _: True)
        attention.unlink()
    return files


def encoders(name: str, folder: Path, threads: int) -> dict[str, Callable[[], object]]:
    """Functions that encode one random clip, by engine and precision."""
    size = backbone_table(name)[0].image_size
    clip = np.random.default_rng(0).integers(0, 256, (1, _FRAMES, size, size, 3), dtype=np.uint8)
    providers = {"ONNX Runtime": "cpu", **({"OpenVINO": "openvino"} if find_spec("openvino") else {})}
    found: dict[str, Callable[[], object]] = {}
    for precision, path in graphs(name, folder).items():
        for engine, provider in providers.items():
            run = open_engine(path, provider, threads=threads).run
            found[f"{engine} {precision}"] = lambda run=run: run({"frames": clip})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("bench"))
    options = parser.parse_args()
    folder = options.work / "backbones"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in options.names:
        try:
            found[name] = encoders(name, folder, options.threads)
        except UserError as error:
            print(f"{name} is left out: {error.message}")
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds + 1):  # the first round warms up
        for name, engines in found.items():
            for engine, encode in engines.items():
                start = time.perf_counter()
                encode()
                times.setdefault((name, engine), []).append(time.perf_counter() - start)
    medians = {key: 1e3 * statistics.median(taken[1:]) / _FRAMES for key, taken in times.items()}
    columns = list(dict.fromkeys(engine for _, engine in medians))
    print(f"{_FRAMES} frames a call, medians of {options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(f"| backbone | pixels | GFLOP | {' | '.join(f'{column}, ms/frame' for column in columns)} |")
    print("|" + "---|" * (3 + len(columns)))
    for name in found:
        row = backbone_table(name)[0]
        cells = [name, str(row.image_size), f"{(row.flop or 0) / 1e9:.1f}"]
        cells += [f"{medians[name, column]:.1f}" for column in columns]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
