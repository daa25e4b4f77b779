"""A prepared dataset in; tables out: what the frame cache costs and saves, and whether accuracy notices it.

python benchmarks/frame_cache.py ROOT [--clips 200] [--frames 8] [--size 224]
python benchmarks/frame_cache.py ROOT --accuracy 3 [--method ivlp] [--set KEY=VALUE]

Without --accuracy: bytes per clip and JPEG error by quality, then the time to read an epoch with and without
the cache, in this process, for training and evaluation. Times are CPU times, which other work on the machine
disturbs little. With --accuracy N: trains and evaluates a method with the dataset's recipe with and without
the cache for seeds 1 … N.
"""

import argparse
import itertools
import json
import statistics
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ga2clip.data.cache import (
    QUALITY,
    SHORT_SIDE,
    cache_folder,
    decode_frame,
    encode_frame,
)
from ga2clip.data.loader import Batch, eval_batches, train_batches
from ga2clip.data.manifest import Clip, Manifest
from ga2clip.data.protocols import EvalSet, Task
from ga2clip.settings import Settings
from ga2clip.video import Preprocess, SamplingRule, sample_frames
from ga2clip.video.preprocess import CLIP_MEAN, CLIP_STD


def quality_table(manifest: Manifest, clips: list[Clip]) -> str:
    """Bytes per frame and error of the JPEGs, over 8 frames of some clips."""
    lines = ["| JPEG quality | colour | bytes/frame | PSNR dB | worst tenth dB |", "|---|---|---|---|---|"]
    frames: list[np.ndarray] = []
    for clip in clips[:40]:
        small = SHORT_SIDE if min(clip.width, clip.height) > SHORT_SIDE else None
        frames += list(sample_frames(manifest.root / clip.path, SamplingRule(8), size=small).frames)
    for quality, colour in itertools.product((80, 85, 90, 95), ("420", "444")):
        sizes, ratios = [], []
        for frame in frames:
            data = encode_frame(frame, quality, colour)
            decoded = decode_frame(data)
            assert decoded is not None
            sizes.append(len(data))
            ratios.append(10 * np.log10(255**2 / ((decoded.astype(np.float64) - frame) ** 2).mean()))
        mark = " (used)" if (quality, colour) == (QUALITY, "444") else ""
        low = np.percentile(ratios, 10)
        lines.append(
            f"| {quality}{mark} | {colour} | {np.mean(sizes):.0f} | {np.mean(ratios):.1f} | {low:.1f} |"
        )
    return "\n".join(lines)


def size_line(manifest: Manifest) -> str:
    """Bytes in the cache beside those of the videos, for clips with a label."""
    labelled = {clip.path: clip for clip in manifest.clips if clip.label}
    cached: Counter[str] = Counter()
    for shard in cache_folder(manifest.root).glob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    header = tar.extractfile(member)
                    assert header is not None
                    path = json.load(header)["path"]
                cached[path] += tarfile.BLOCKSIZE + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    kept = [path for path in cached if path in labelled]
    if not kept:
        raise SystemExit("there is no frame cache: ga2clip prepare … --cache")
    stored = statistics.mean(cached[path] for path in kept) / 1024
    videos = statistics.mean((manifest.root / path).stat().st_size for path in kept) / 1024
    return f"{len(kept)} clips: cache {stored:.0f} KiB/clip, videos {videos:.0f} KiB/clip"


def speed_table(manifest: Manifest, clips: list[Clip], frames: int, size: int) -> str:
    """CPU milliseconds per clip of an epoch, from files and from the cache."""
    preprocess = Preprocess(size, CLIP_MEAN, CLIP_STD)
    lines = ["| read | from files, ms/clip | from the cache, ms/clip | × |", "|---|---|---|---|"]
    task = Task(
        "", "", manifest.root, manifest.classes, tuple(clips), (), (EvalSet("", manifest.classes, ()),)
    )
    for what in ("training", "evaluation"):
        times = []
        for cache in (False, True):
            settings = Settings.from_dict(
                {"data": {"root": str(manifest.root), "frames": frames, "cache": cache}}, "benchmark"
            )
            if what == "training":
                batches = train_batches(task, settings, preprocess, epoch=0)
            else:
                batches = eval_batches(clips, manifest.classes, settings, preprocess)
            times.append(epoch_time(batches))
        lines.append(f"| {what} | {times[0]:.1f} | {times[1]:.1f} | {times[0] / times[1]:.1f} |")
    return "\n".join(lines)


def epoch_time(batches: Iterable[Batch]) -> float:
    begin = time.process_time()
    clips = sum(len(batch.ids) for batch in batches)
    return (time.process_time() - begin) / clips * 1000


def accuracy_table(manifest: Manifest, method: str, seeds: int, overrides: list[str]) -> str:
    """Base, novel and HM of the dataset's recipe, trained and tested with and without the cache."""
    from ga2clip.evaluation.evaluate import evaluate_run
    from ga2clip.training.configure import configure
    from ga2clip.training.train import train

    lines = ["| cache | seed | base | novel | HM |", "|---|---|---|---|---|"]
    for cache in (False, True):
        scores = []
        for seed in range(1, seeds + 1):
            options = {"data": {"root": str(manifest.root), "cache": cache}, "training": {"seed": seed}}
            settings = configure(
                dataset=manifest.dataset, method=method, options=options, overrides=overrides
            )
            with tempfile.TemporaryDirectory() as folder:
                report = evaluate_run(
                    train(settings, Path(folder) / "run", progress=False), progress=False
                ).to_json()
            score = (report["base"]["top1"], report["novel"]["top1"], report["harmonic_mean"])
            lines.append(
                f"| {'yes' if cache else 'no'} | {seed} | " + " | ".join(f"{x:.3f}" for x in score) + " |"
            )
            scores.append(score)
        means = " | ".join(f"{statistics.mean(column):.3f}" for column in zip(*scores, strict=True))
        lines.append(f"| {'yes' if cache else 'no'} | mean | {means} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--accuracy", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--method", default="ivlp", help="for --accuracy")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="for --accuracy")
    options = parser.parse_args()
    manifest = Manifest.read(options.root)
    if options.accuracy:
        print(accuracy_table(manifest, options.method, options.accuracy, options.overrides))
        return
    clips = [clip for clip in manifest.clips if clip.label and clip.frames]
    clips = [clips[number] for number in np.random.default_rng(0).permutation(len(clips))[: options.clips]]
    print(size_line(manifest), quality_table(manifest, clips), sep="\n\n")
    print("\n" + speed_table(manifest, clips, options.frames, options.size))


if __name__ == "__main__":
    main()
