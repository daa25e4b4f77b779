"""Temporal poolings on `stickfigures-order`, whose pairs of classes differ by the order of their frames alone.

The vision tower is frozen, so that the features of every frame are computed once (--features); what trains is a deep
text prompt and the pooling. Measured are the accuracy between the two classes of a pair and among all classes of a
half. One line of JSON per trained model goes to --out, and what is there already is not trained again. --select trains
on the pairs of some base objects and tests the training clips of the other base objects: settings are chosen there,
never on test clips.

    ga2clip prepare --dataset stickfigures-order --clips-per-class 100
    OMP_NUM_THREADS=1 python benchmarks/pooling.py --features order.npz --out select.jsonl --select --seeds 1 2 3
    OMP_NUM_THREADS=1 python benchmarks/pooling.py --features order.npz --out pooling.jsonl --seeds 1 2 3 4 5 6 7 8
    python benchmarks/pooling.py --out pooling.jsonl --report
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import encode_clips
from ga2clip.data.protocols import EvalSet, Task, load_task
from ga2clip.data.stickfigures.classes_order import BASE_PAIRS, NOVEL_PAIRS
from ga2clip.evaluation.statistics import (
    clip_variance,
    difference_interval,
    mean_interval,
    p_value,
    paired_t,
    percent,
)
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.settings import Settings
from ga2clip.training.features import CachedBatches
from ga2clip.training.schedule import Rate
from ga2clip.training.train import make_model
from ga2clip.training.update import Updater

ROWS = ("mean", "trend", "attention", "transformer")
FRAMES = 8
TRAINED_ON = (0, 2, 4, 6, 8, 9)  # of the base pairs, for --select: each verb once
CPU = Group(torch.device("cpu"))
OTHER = {a.name: b.name for pair in (*BASE_PAIRS, *NOVEL_PAIRS) for a, b in (pair, pair[::-1])}


def settings_of(root: str, kind: str, seed: int, **method: Any) -> Settings:
    """Deep text prompts and a pooling, 16 shots, 20 epochs."""
    tree: dict[str, dict[str, Any]] = {
        "data": {"dataset": "stickfigures-order", "root": root, "frames": FRAMES},
        "method": {"pooling": kind, "text_length": 6, "text_depth": 9, **method},
        "training": {"epochs": 20, "lr": 1e-2, "seed": seed},
    }
    return Settings().updated(method_settings("coop"), "coop").updated(tree, "benchmark")


def frame_features(file: Path, root: str) -> dict[str, torch.Tensor]:
    """Frame features (T, D) of every clip by its id, from the file or computed into it."""
    if not file.exists():
        settings = settings_of(root, "mean", 1).updated({"data": {"shots": 0}}, "all clips")
        task = load_task(settings)[1]
        model = make_model(settings, task.classes).eval()

        def encode(video: torch.Tensor) -> torch.Tensor:
            return model.encode_frames(video)

        clips = [*task.train, *(clip for part in task.evals for clip in part.clips)]
        found = encode_clips(model, clips, settings, CPU, encode=encode, bar=True).features
        np.savez(file, ids=list(found), features=np.stack([views[0].numpy() for views in found.values()]))
    stored = np.load(file)
    return dict(zip(stored["ids"].tolist(), torch.from_numpy(stored["features"]), strict=True))


def task_of(settings: Settings, select: bool) -> Task:
    """The benchmark's task, or the one that settings are chosen on."""
    task = load_task(settings)[1]
    if not select:
        return task
    pairs = [(a.name, b.name) for a, b in BASE_PAIRS]
    seen = [name for number in TRAINED_ON for name in pairs[number]]
    held = [name for pair in pairs for name in pair if name not in seen]
    everything = load_task(settings.updated({"data": {"shots": 0}}, "all clips"))[1].train
    train = tuple(clip for clip in task.train if clip.label in seen)
    used = {clip.id for clip in train}
    parts = (
        EvalSet("base", tuple(seen), tuple(c for c in everything if c.label in seen and c.id not in used)),
        EvalSet("novel", tuple(held), tuple(c for c in everything if c.label in held)),
    )
    return replace(task, classes=tuple(seen), train=train, evals=parts)


def train(settings: Settings, task: Task, features: dict[str, torch.Tensor]) -> tuple[VideoCLIP, float]:
    """A trained model, and the seconds that an update took."""
    updater = Updater(make_model(settings, task.classes), CPU)
    batches = CachedBatches(task, settings, CPU, features)
    steps = sum(1 for _ in batches(0, 0))
    rate = Rate(steps * settings.training.epochs, steps, steps)
    updater.model.train()
    started, step = time.process_time(), 0
    for epoch in range(settings.training.epochs):
        for batch in batches(epoch, 0):
            updater.run(batch, step, rate.factor(step))
            step += 1
    return updater.model.eval(), (time.process_time() - started) / step


@torch.no_grad()
def hits(model: VideoCLIP, part: EvalSet, features: dict[str, torch.Tensor]) -> dict[str, str]:
    """1 or 0 for each clip: whether it is nearer to its class than to the other of its pair, and than to all others."""
    classes = F.normalize(model.encode_classes(list(part.classes)), dim=-1)
    videos = F.normalize(model.pool(torch.stack([features[clip.id] for clip in part.clips])), dim=-1)
    scores = videos @ classes.T
    row = {name: number for number, name in enumerate(part.classes)}
    own = torch.tensor([row[str(clip.label)] for clip in part.clips])
    other = torch.tensor([row[OTHER[str(clip.label)]] for clip in part.clips])
    index = torch.arange(len(own))
    return {
        "pair": _digits(scores[index, own] > scores[index, other]),
        "top1": _digits(scores.argmax(dim=1) == own),
    }


def _digits(right: torch.Tensor) -> str:
    return "".join(str(int(value)) for value in right)


def _table(lines: Sequence[dict[str, Any]], half: str, score: str) -> np.ndarray:
    """(S, N) of S runs and N clips."""
    return np.array([[int(digit) for digit in line["hits"][half][score]] for line in lines])


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for every model that is not in the file yet."""
    known = {(line["row"], line["seed"]) for line in read(arguments.out)}
    features = frame_features(arguments.features, arguments.root)
    for seed in arguments.seeds:
        for kind in arguments.rows:
            if (kind, seed) in known:
                continue
            settings = settings_of(arguments.root, kind, seed)
            task = task_of(settings, arguments.select)
            model, seconds = train(settings, task, features)
            own = [p.numel() for name, p in model.trainable_parameters().items() if ".pooling_" in name]
            yield {
                "row": kind,
                "seed": seed,
                "seconds": seconds,
                "parameters": sum(own),
                "per_clip": seconds_per_clip(model),
                "hits": {part.name: hits(model, part, features) for part in task.evals},
            }


@torch.no_grad()
def seconds_per_clip(model: VideoCLIP, times: int = 50) -> float:
    """Processor seconds that pooling one clip takes."""
    clip = torch.randn(1, FRAMES, model.backbone.embed_dim)
    model.pool(clip)
    started = time.process_time()
    for _ in range(times):
        model.pool(clip)
    return (time.process_time() - started) / times


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table: means with intervals over seeds and clips, and a paired p-value against the mean."""
    columns = [(half, score) for half in ("base", "novel") for score in ("pair", "top1")]
    yield (
        "| pooling | "
        + " | ".join(f"{half} {score}" for half, score in columns)
        + (" | novel pair against the mean | parameters | s/update | ms/clip | seeds |")
    )
    yield "|---" * (len(columns) + 6) + "|"
    for kind in ROWS:
        own = sorted((line for line in lines if line["row"] == kind), key=lambda line: line["seed"])
        if not own:
            continue
        cells = [interval(_table(own, half, score)) for half, score in columns]
        both = {n["seed"] for n in lines if n["row"] == "mean"} & {line["seed"] for line in own}
        paired, plain = (
            sorted((n for n in lines if n["row"] == row and n["seed"] in both), key=lambda n: n["seed"])
            for row in (kind, "mean")
        )
        ours, theirs = (_table(part, "novel", "pair").mean(axis=1).tolist() for part in (paired, plain))
        gain = float(np.mean(ours) - np.mean(theirs))
        against = f"{percent(gain, difference_interval(ours, theirs))}, p {p_value(paired_t(ours, theirs))}"
        cost = (np.median([line[name] for line in own]) for name in ("seconds", "per_clip"))
        update, clip = cost
        yield (
            f"| {kind} | {' | '.join(cells)} | {'–' if kind == 'mean' else against} | {own[0]['parameters']:,} "
            f"| {update:.3f} | {1000 * clip:.2f} | {len(own)} |"
        )


def interval(table: np.ndarray) -> str:
    """The mean accuracy of runs × clips with its interval."""
    values = table.mean(axis=1).tolist()
    return percent(float(np.mean(values)), mean_interval(values, clip_variance(table)))


def main() -> None:
    """Measure what is missing, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path, default=Path("order.npz"))
    parser.add_argument("--root", default="data/stickfigures-order")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--select", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if arguments.report:
        print("\n".join(report(read(arguments.out))))
        return
    for line in measure(arguments):
        with arguments.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
