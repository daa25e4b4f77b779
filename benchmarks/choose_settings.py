"""How the settings of `stickfigures` were chosen: on base clips that training left out, and on another dataset.

Neither the test clips nor the novel classes are looked at. The held-out clips are the training clips of the base
classes that 16 shots leave over; openness is zero-shot accuracy on `stickfigures-other`, whose classes are neither.

    ga2clip prepare --dataset stickfigures && ga2clip prepare --dataset stickfigures-other
    python benchmarks/choose_settings.py --method ivlp --set training.lr=0.002 --set training.lr=0.005
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from ga2clip.data.manifest import Manifest, dataset_root
from ga2clip.data.protocols import EvalSet
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.evaluation.features import encode_clips
from ga2clip.run import load_run
from ga2clip.training.configure import configure
from ga2clip.training.distributed import join_group
from ga2clip.training.train import train


def held_out_accuracy(run_path: Path) -> float:
    """Top-1 among the base classes on their training clips that the run did not train on."""
    run = load_run(run_path)
    task = run.task()
    trained = {clip.id for clip in task.train}
    clips = Manifest.read(dataset_root(run.settings.data)).clips
    kept = tuple(c for c in clips if c.split == "train" and c.label in task.classes and c.id not in trained)
    held_out = EvalSet("held out", task.classes, kept)
    model = run.model()
    with join_group("auto") as group:
        features = encode_clips(model, held_out.clips, run.settings, group).features
    classes = model.encode_classes(held_out.classes)
    best = [model.logits(features[clip.id], classes).argmax(dim=-1).item() for clip in held_out.clips]
    return sum(held_out.classes[int(i)] == clip.label for i, clip in zip(best, kept, strict=True)) / len(kept)


def measure(method: str, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Train once and look at both numbers."""
    options = {"training": {"seed": seed}}
    settings = configure(dataset="stickfigures", method=method, options=options, overrides=overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = train(settings, Path(folder) / "run", progress=False)
        other = evaluate_run(run, dataset="stickfigures-other", progress=False).to_json()
        held_out = held_out_accuracy(run)
    return {
        "method": method,
        "seed": seed,
        "set": overrides,
        "held_out": held_out,
        "other": other["test"]["top1"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", nargs="+", default=["ivlp"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument(
        "--set", action="append", default=[], help="a candidate: settings separated by blanks"
    )
    options = parser.parse_args()
    for candidate in options.set or [""]:
        for method in options.method:
            for seed in options.seeds:
                print(json.dumps(measure(method, seed, candidate.split())), flush=True)


if __name__ == "__main__":
    main()
