"""How settings and methods are chosen: on the training clips of a dataset's base classes alone.

Half of the base classes, drawn by the seed, are trained on with some clips each; the others play the novel classes.
Tested are training clips that are left over, each half among its own classes. So neither the test clips nor the novel
classes of the dataset are looked at, nor `stickfigures-other`, on which the hard prompt was learned. Classes that show
the same clips forwards and backwards stay in one half.

    ga2clip prepare --dataset stickfigures
    python benchmarks/choose_settings.py --out choose.jsonl --try ivlp --try "ivlp training.lr=0.005" --try ga2
    python benchmarks/choose_settings.py --out choose.jsonl --report --against ivlp

A candidate is a method and settings, separated by blanks. What is in --out already is not trained again.

How far results spread over clips and starting values can't be told where every seed also has other classes: with
--halves 2 there are two halvings, which the seeds take in turn, and the report has the standard deviation within them.
"""

import argparse
import json
import math
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ga2clip.data.manifest import Manifest
from ga2clip.data.stickfigures import CLASS_SETS
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.evaluation.statistics import mean_interval, p_value, paired_t, percent
from ga2clip.training.configure import configure
from ga2clip.training.train import train

FIELDS = ("base", "novel", "HM")


class Case(NamedTuple):
    """What candidates are measured on.

    Attributes:
        dataset: one of the built-in ones.
        shots: training clips of each class of the half that is trained on.
        held_out: clips of each class that are tested, at most.
        halves: how many halvings of the classes the seeds share, 0: each has its own.
    """

    dataset: str
    shots: int
    held_out: int
    halves: int = 0


def halves(manifest: Manifest, rng: random.Random) -> tuple[list[str], list[str]]:
    """The base classes in two halves, drawn; a class and its reverse in the same one."""
    actions = CLASS_SETS[manifest.dataset].by_name
    groups: dict[str, list[str]] = {}
    for name in manifest.base_classes:
        groups.setdefault(actions[name].backwards_of or name, []).append(name)
    drawn = list(groups.values())
    rng.shuffle(drawn)
    cut = len(drawn) // 2
    first, second = (sorted(name for group in part for name in group) for part in (drawn[:cut], drawn[cut:]))
    return first, second


def write_lists(root: Path, case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """Split lists of the halved base classes; returns the data settings that read them."""
    manifest = Manifest.read(root)
    rng = random.Random(100 + seed)  # other numbers than those of the training with that seed
    trained, others = halves(manifest, random.Random(seed % case.halves) if case.halves else rng)
    train_lines, test_lines = [], []
    for number, name in enumerate([*trained, *others]):
        clips = [clip for clip in manifest.clips if clip.split == "train" and clip.label == name]
        rng.shuffle(clips)
        lines = [f"{clip.path} {number}" for clip in clips]
        shots = case.shots if name in trained else 0
        train_lines += lines[:shots]
        test_lines += lines[shots:][: case.held_out]
    rows = [f"{number},{name}" for number, name in enumerate([*trained, *others])]
    files = {
        "split_file": ("train.txt", train_lines),
        "test_split_file": ("test.txt", test_lines),
        "labels": ("labels.csv", ["id,name", *rows]),
    }
    for file, lines in files.values():
        (folder / file).write_text("\n".join(lines) + "\n")
    return {"root": str(root), **{key: str(folder / file) for key, (file, _) in files.items()}}


def measure(candidate: str, seed: int, root: Path, case: Case) -> dict[str, Any]:
    """Train once; top-1 on both halves and their harmonic mean."""
    method, *overrides = candidate.split()
    with tempfile.TemporaryDirectory() as folder:
        options = {"data": write_lists(root, case, seed, Path(folder)), "training": {"seed": seed}}
        settings = configure(
            dataset=case.dataset,
            method=method,
            protocol="base-to-novel",
            options=options,
            overrides=overrides,
        )
        report = evaluate_run(train(settings, Path(folder) / "run", progress=False), progress=False).to_json()
    scores = {"base": report["base"]["top1"], "novel": report["novel"]["top1"], "HM": report["harmonic_mean"]}
    return {"candidate": candidate, "seed": seed, **case._asdict(), **scores}


def deviation(lines: list[dict[str, Any]], halves: int) -> float:
    """Standard deviation of the harmonic mean over the seeds, within those that have the same halves."""
    groups: dict[int, list[float]] = {}
    for line in lines:
        groups.setdefault(line["seed"] % halves if halves else 0, []).append(line["HM"])
    squares = [(value - statistics.mean(group)) ** 2 for group in groups.values() for value in group]
    free = len(squares) - len(groups)
    return math.sqrt(sum(squares) / free) if free else math.nan


def table(lines: list[dict[str, Any]], against: str, halves: int) -> str:
    """Means with 95 % intervals over seeds, the best harmonic mean first, the standard deviation of that, and p of a
    paired t-test over the seeds.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_name.setdefault(line["candidate"], []).append(line)
    reference = {line["seed"]: line["HM"] for line in by_name.get(against, [])}
    rows = []
    for name, own in by_name.items():
        values = [[line[field] for line in own] for field in FIELDS]
        cells = [percent(statistics.mean(v), mean_interval(v)) for v in values]
        pairs = [(line["HM"], reference[line["seed"]]) for line in own if line["seed"] in reference]
        p = p_value(paired_t(*zip(*pairs, strict=True))) if pairs and name != against else "–"
        cells.append(f"{100 * deviation(own, halves):.1f}")
        rows.append((statistics.mean(values[-1]), f"| {name} | {' | '.join(cells)} | {p} | {len(own)} |"))
    head = f"| candidate | base half | other half | HM | standard deviation | p against {against} | seeds |"
    return "\n".join([head, "|---" * 7 + "|", *(row for _, row in sorted(rows, reverse=True))])


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
    parser.add_argument("--dataset", default="stickfigures", choices=CLASS_SETS)
    parser.add_argument("--root", type=Path, help="default: data/DATASET")
    parser.add_argument("--shots", type=int, default=12)
    parser.add_argument("--held-out", type=int, default=1000, help="tested clips of each class, at most")
    parser.add_argument(
        "--halves", type=int, default=0, help="halvings that the seeds share; 0: each has its own"
    )
    parser.add_argument("--against", default="ivlp", help="with --report: what p-values compare with")
    parser.add_argument("--report", action="store_true", help="print the table of what is in --out")
    options = parser.parse_args()
    lines = (
        [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    )
    case = Case(options.dataset, options.shots, options.held_out, options.halves)
    lines = [line for line in lines if {"halves": 0, **line}.items() >= case._asdict().items()]
    if options.report:
        print(table(lines, options.against, case.halves))
        return
    root = options.root or Path("data") / case.dataset
    done = {(line["candidate"], line["seed"]) for line in lines}
    for seed in options.seeds:
        for candidate in options.candidates:
            if (candidate, seed) not in done:
                line = measure(candidate, seed, root, case)
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
