"""What names without examples lose or gain by teaching: base classes of a dataset are taught, others are asked for.

On training clips alone, with the features of the untuned built-in backbone: K clips of each base class are examples;
asked are the base classes (on clips that were not examples), the novel ones, and the classes of other datasets.

    ga2clip prepare --dataset stickfigures    # and stickfigures-narrow, stickfigures-order
    python benchmarks/names.py --shots 4 16
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ga2clip.compute.distributed import Group
from ga2clip.compute.features import encode_clips
from ga2clip.data.manifest import Manifest
from ga2clip.evaluation.statistics import mean_interval, percent
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.teaching import Example, Examples, Head
from ga2clip.training.configure import configure
from ga2clip.training.train import make_model

DATASETS = ("stickfigures", "stickfigures-narrow", "stickfigures-order")
CLIPS = 36  # of each class


class Half(NamedTuple):
    """The classes of a half: names (C), their texts (C, D), unit video features (N, D) and their classes (N,)."""

    names: tuple[str, ...]
    texts: NDArray[np.float32]
    video: NDArray[np.float32]
    labels: NDArray[np.int64]


def halves(dataset: str, data: Path) -> dict[str, Half]:
    """Base and novel classes of a dataset with their first training clips, by the untuned backbone."""
    root = data / dataset
    manifest = Manifest.read(root)
    options = {"data": {"root": str(root), "frames": 4}}
    settings = configure(dataset=dataset, method="zero-shot", protocol="base-to-novel", options=options)
    model = make_model(settings, manifest.classes).eval()
    by_class = {
        name: [clip for clip in manifest.clips if clip.split == "train" and clip.label == name][:CLIPS]
        for name in manifest.classes
    }
    clips = [clip for own in by_class.values() for clip in own]
    features = encode_clips(model, clips, settings, Group(torch.device("cpu"))).features
    found = {}
    for half in ("base", "novel"):
        names = tuple(n for n in manifest.classes if (n in manifest.base_classes) == (half == "base"))
        own = [(clip, row) for row, name in enumerate(names) for clip in by_class[name]]
        with torch.no_grad():
            texts = normalise(model.encode_classes(names).numpy())
        video = normalise(np.stack([features[clip.id][0].numpy() for clip, _ in own]))
        found[half] = Half(names, texts, video, np.array([row for _, row in own]))
    return found


def taught(half: Half, shots: int, seed: int) -> tuple[Head, NDArray[np.bool_]]:
    """The classes of a half taught by some clips of each, and which of its clips those are."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(half.labels), bool)
    for row in range(len(half.names)):
        drawn[rng.permutation(np.flatnonzero(half.labels == row))[:shots]] = True
    rows = np.flatnonzero(drawn)
    items = [Example(half.names[half.labels[row]], "class", f"{row:064x}") for row in rows]
    examples = Examples.sorted(items, half.video[rows])
    return Head(half.names, half.texts, examples, len(half.names), 1.0, None, len(half.names)), drawn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the prepared datasets")
    parser.add_argument("--shots", nargs="+", type=int, default=[16])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    asked = {(name, half): own for name in DATASETS for half, own in halves(name, options.data).items()}
    print(f"| taught | {' | '.join(f'{name}, {half}' for name, half in asked)} |")
    print("|---" * (len(asked) + 1) + "|")
    cells = [percent(float(((h.video @ h.texts.T).argmax(1) == h.labels).mean())) for h in asked.values()]
    print(f"| nothing | {' | '.join(cells)} |")
    for name in DATASETS:
        for shots in options.shots:
            cells = []
            for place, half in asked.items():
                values = []
                for seed in range(options.seeds):
                    head, drawn = taught(asked[name, "base"], shots, seed)
                    fresh = ~drawn if place == (name, "base") else np.ones(len(half.labels), bool)
                    scores = head.rows(half.names, half.texts).scores(half.video[fresh])
                    values.append(float((scores.argmax(axis=1) == half.labels[fresh]).mean()))
                cells.append(percent(float(np.mean(values)), mean_interval(values)))
            print(f"| {name}, base, {shots} clips | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
