"""How the settings of `stickfigures` are chosen: on the training clips of its base classes alone.

Ten of the twenty base classes, drawn by the seed, are trained on with 12 clips each; the other ten play the novel
classes. Tested are the training clips that are left over, each half among its own classes. So neither the test clips
nor the novel classes of the dataset are looked at, nor `stickfigures-other`, on which the hard prompt was learned.

    ga2clip prepare --dataset stickfigures
    python benchmarks/choose_settings.py --out choose.jsonl --try ivlp --try "ivlp training.lr=0.005" --try ga2
    python benchmarks/choose_settings.py --out choose.jsonl --report

A candidate is a method and settings, separated by blanks. What is in --out already is not trained again.
"""

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from ga2clip.data.manifest import Manifest
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.training.configure import configure
from ga2clip.training.train import train

SHOTS = 12
FIELDS = ("base", "novel", "HM")


def write_lists(root: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Split lists of the halved base classes; returns the data settings that read them."""
    manifest = Manifest.read(root)
    rng = random.Random(100 + seed)  # other numbers than those of the training with that seed
    names = list(manifest.base_classes)
    rng.shuffle(names)
    half = len(names) // 2
    names = sorted(names[:half]) + sorted(names[half:])
    train_lines, test_lines = [], []
    for number, name in enumerate(names):
        clips = [clip for clip in manifest.clips if clip.split == "train" and clip.label == name]
        rng.shuffle(clips)
        lines = [f"{clip.path} {number}" for clip in clips]
        shots = SHOTS if number < half else 0
        train_lines += lines[:shots]
        test_lines += lines[shots:]
    rows = [f"{number},{name}" for number, name in enumerate(names)]
    files = {
        "split_file": ("train.txt", train_lines),
        "test_split_file": ("test.txt", test_lines),
        "labels": ("labels.csv", ["id,name", *rows]),
    }
    for file, lines in files.values():
        (folder / file).write_text("\n".join(lines) + "\n")
    return {"root": str(root), **{key: str(folder / file) for key, (file, _) in files.items()}}


def measure(candidate: str, seed: int, root: Path) -> dict[str, Any]:
    """Train once; top-1 on both halves and their harmonic mean."""
    method, *overrides = candidate.split()
    with tempfile.TemporaryDirectory() as folder:
        options = {"data": write_lists(root, seed, Path(folder)), "training": {"seed": seed}}
        settings = configure(
            dataset="stickfigures",
            method=method,
            protocol="base-to-novel",
            options=options,
            overrides=overrides,
        )
        report = evaluate_run(train(settings, Path(folder) / "run", progress=False), progress=False).to_json()
    scores = {"base": report["base"]["top1"], "novel": report["novel"]["top1"], "HM": report["harmonic_mean"]}
    return {"candidate": candidate, "seed": seed, **scores}


def table(lines: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation over seeds in percent, the best harmonic mean first."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_name.setdefault(line["candidate"], []).append(line)
    rows = []
    for name, own in by_name.items():
        values = [[100 * line[field] for line in own] for field in FIELDS]
        means = [statistics.mean(v) for v in values]
        cells = [f"{statistics.mean(v):.1f} ± {statistics.stdev(v) if len(v) > 1 else 0:.1f}" for v in values]
        rows.append((means[-1], f"| {name} | {' | '.join(cells)} | {len(own)} |"))
    head = ["| candidate | base half | other half | HM | seeds |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row for _, row in sorted(rows, reverse=True))])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of results, a JSON object a line")
    parser.add_argument(
        "--try",
        dest="candidates",
        action="append",
        default=[],
        help="a method and settings, with blanks between",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--root", type=Path, default=Path("data/stickfigures"))
    parser.add_argument("--report", action="store_true", help="print the table of what is in --out")
    options = parser.parse_args()
    lines = (
        [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    )
    if options.report:
        print(table(lines))
        return
    done = {(line["candidate"], line["seed"]) for line in lines}
    for seed in options.seeds:
        for candidate in options.candidates:
            if (candidate, seed) not in done:
                line = measure(candidate, seed, options.root)
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
