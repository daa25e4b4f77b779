"""The main speed ratios in a few minutes, beside those of last time: a Markdown table for a pull request.

    python benchmarks/ratios.py                      # compares with bench.json and replaces it
    python benchmarks/ratios.py --only update names  # some of them; the others stay in the file

Each ratio is of two things that take turns in one process (start-up: of processes that take turns), so that a busy
machine slows both; above 1 the second is faster. The table has medians and quartiles over the rounds. A ratio counts
as changed when the quartiles of both times don't overlap.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BUNDLE = Path(__file__).parents[1] / "ga2clip" / "assets" / "tiny" / "bundle"


class Pair(NamedTuple):
    """Two things to time: what is compared with, and ours."""

    what: str
    reference: Callable[[], Any]
    ours: Callable[[], Any]


def encoder(folder: Path) -> Pair:  # noqa: ARG001
    """The built-in bundle's video encoder against `tiny` in torch."""
    import torch

    from ga2clip.model.load_backbone import load_backbone
    from ga2clip.runtime import Predictor
    from ga2clip.settings import BackboneSettings

    predictor = Predictor(BUNDLE, provider="cpu", threads=1, cache=False)
    backbone = load_backbone(BackboneSettings(name="tiny", pretrained="builtin"))
    size = predictor.model.preprocess.size
    frames = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    pixels = torch.from_numpy(predictor.model.preprocess.normalise(frames))

    def eager() -> None:
        with torch.no_grad():
            backbone.vision(pixels)

    return Pair("encoder of `tiny`: torch / ONNX", eager, lambda: predictor.encode_frames(frames))


def update(folder: Path) -> Pair:
    """A training step: the plain reading of the published one against ours."""
    import torch
    from train_step import make_batch, make_model, our_step, parse, plain_step, write_weights

    options = parse([])
    options.folder, options.clips, options.anchors, options.frames = str(folder), 4, 1, 4
    options.classes, options.prompts = 20, 6
    write_weights("256x96", options)
    device = torch.device("cpu")
    models = [make_model(variant, options) for variant in ("plain", "ours")]
    plain, ours = models
    return Pair(
        "update, towers of 256 channels: plain / ours",
        plain_step(plain, make_batch(options, plain), device, options),
        our_step(ours, make_batch(options, ours), device),
    )


def start(folder: Path) -> Pair:
    """A whole prediction as a process against a process that only loads NumPy, ONNX Runtime and PyAV."""
    clip = camera(folder / "start.mp4", seconds=2)
    predict = [sys.executable, "-m", "ga2clip_cli", "predict", str(clip), "--model", str(BUNDLE)]
    load = [sys.executable, "-c", "import numpy, onnxruntime, av, PIL.Image"]

    def run(command: list[str]) -> Callable[[], Any]:
        return lambda: subprocess.run(command, check=True, capture_output=True)

    return Pair("start: loading libraries / `ga2clip predict CLIP`", run(load), run(predict))


def sampling(folder: Path) -> Pair:
    """Eight sampled frames of a clip against decoding all of it with PyAV."""
    import av

    from ga2clip.video import SamplingRule, sample_frames

    clip = camera(folder / "sampling.mp4", seconds=10)

    def every() -> None:
        with av.open(str(clip)) as video:
            for frame in video.decode(video=0):
                frame.to_ndarray(format="rgb24")

    rule = SamplingRule(frames=8)
    return Pair("8 frames of 10 s: decoding all / sampling", every, lambda: sample_frames(clip, rule))


def still(folder: Path) -> Pair:
    """The frames of a still camera, all encoded, and only those that changed."""
    from ga2clip.choices import STILL
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.still import StillFrames
    from ga2clip.video import read_frames

    clip = camera(folder / "still.mp4", seconds=8)
    predictor = Predictor(BUNDLE, provider="cpu", threads=1, cache=False)
    frames = predictor.prepare(read_frames(clip, range(0, 200, 6))[0])
    return Pair(
        "frames of a still camera: all / changed ones",
        lambda: predictor.encode_frames(frames),
        lambda: StillFrames(predictor.encode_frames, STILL).encode(frames),
    )


def names(folder: Path) -> Pair:
    """200 new class names, computed and from the cache."""
    from ga2clip.runtime import Predictor

    os.environ["GA2CLIP_CACHE"] = str(folder / "cache")
    classes = [f"{verb} number {n}" for n in range(100) for verb in ("riding a bike", "throwing a ball")]
    fresh = Predictor(BUNDLE, provider="cpu", threads=1, cache=False)
    cached = Predictor(BUNDLE, provider="cpu", threads=1)
    return Pair(
        "200 new names: computed / from the cache",
        lambda: fresh.encode_classes(classes),
        lambda: cached.encode_classes(classes),
    )


PAIRS: dict[str, Callable[[Path], Pair]] = {
    function.__name__: function for function in (encoder, update, start, sampling, still, names)
}


def camera(path: Path, seconds: int) -> Path:
    """A video of a still scene with a little noise, 25 frames per second."""
    from ga2clip.video import write_video

    rng = np.random.default_rng(0)
    scene = rng.integers(40, 200, (15, 20, 3)).repeat(16, axis=0).repeat(16, axis=1)
    frames = (scene + rng.normal(0, 1, scene.shape) for _ in range(25 * seconds))
    write_video(path, (frame.clip(0, 255).astype(np.uint8) for frame in frames), 25)
    return path


def ratios(pair: Pair, rounds: int) -> list[float]:
    """Seconds of the reference over ours, round by round; a first round warms up."""
    found = []
    for _ in range(rounds + 1):
        seconds = []
        for function in (pair.reference, pair.ours):
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
        found.append(seconds[0] / seconds[1])
    return found[1:]


def table(now: dict[str, Any], last: dict[str, Any]) -> Iterator[str]:
    """Markdown: every ratio of now, beside that of last time."""
    yield "| ratio | last time | now | |"
    yield "|---|---|---|---|"
    for name, entry in now.items():
        before = last.get(name)
        cells = [entry["what"], shown(before["ratios"]) if before else "–", shown(entry["ratios"])]
        yield f"| {' | '.join(cells)} | {change(before['ratios'], entry['ratios']) if before else 'new'} |"


def shown(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} – {high:.2f})"


def change(before: list[float], now: list[float]) -> str:
    """In words, where the quartiles don't overlap."""
    old, new = statistics.quantiles(before, n=4), statistics.quantiles(now, n=4)
    percent = f"{100 * (new[1] / old[1] - 1):+.0f} %"
    if new[0] > old[2]:
        return f"faster, {percent}"
    return f"**slower**, {percent}" if new[2] < old[0] else "as before"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=Path("bench.json"), help="last time's, replaced")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("quartiles need two rounds")
    last = json.loads(options.file.read_text()) if options.file.exists() else {}
    now = {}
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            pair = PAIRS[name](Path(folder))
            now[name] = {"what": pair.what, "ratios": ratios(pair, options.rounds)}
    print("\n".join(table(now, last)))
    options.file.write_text(json.dumps({**last, **now}, indent=1) + "\n")
    print(f"\nLoad {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.rounds} rounds.")


if __name__ == "__main__":
    main()
