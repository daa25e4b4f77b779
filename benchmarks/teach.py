"""Rules that learn classes from a few clips, on features of a built-in dataset: the one of `ga2clip teach` and others.

    ga2clip prepare --dataset stickfigures-narrow --clips-per-class 40
    python benchmarks/teach.py --features narrow.npz --model runs/zero-shot/bundle --root data/stickfigures-narrow
    OMP_NUM_THREADS=1 python benchmarks/teach.py --features narrow.npz --seeds 1 2 3 4 5
    OMP_NUM_THREADS=1 python benchmarks/teach.py --features narrow.npz --tune

--tune reports on the training clips that no seed has drawn, instead of the test clips: the rule's constants were chosen
there, as were those of the other rules. Only writing the features of a model that is no bundle needs torch; the tables
are made in a process in which it can't be imported.
"""

import argparse
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats
from teach_rules import RULES, Data, alone, asked, head, teach, zero_shot

from ga2clip.evaluation.statistics import clip_variance, mean_interval, percent
from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.fit_calibration import Sets, best_cut, errors_of
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.taught_calibration import HeldOut, TaughtProbabilities, chosen, fitted_scale
from ga2clip.runtime.teaching import Head

SHOTS = (1, 2, 4, 8, 16)


def write_features(model: str, root: Path, out: Path) -> None:
    """Encode all clips of the prepared dataset."""
    from ga2clip.data.manifest import Manifest
    from ga2clip.evaluation.open_predictor import open_predictor
    from ga2clip.runtime.model import Encoded

    manifest = Manifest.read(root)
    with open_predictor(model, classes=manifest.classes, threads=1) as predictor:
        encoded = predictor.encode_files([root / clip.path for clip in manifest.clips])
        video = np.stack([part.video for part in encoded if isinstance(part, Encoded)])
        np.savez(
            out,
            F=video,
            lab=np.array(
                [-1 if c.label is None else manifest.classes.index(c.label) for c in manifest.clips]
            ),
            split=np.array([clip.split for clip in manifest.clips]),
            names=np.array(manifest.classes),
            T=predictor.encode_classes(manifest.classes),
            neg=predictor.model.negatives,
            scale=predictor.model.scale,
        )


def read_data(path: Path) -> Data:
    """What `write_features` wrote."""
    with np.load(path) as a:
        names = tuple(a["names"].tolist())
        train = (a["split"] == "train") & (a["lab"] >= 0)
        return Data(normalise(a["F"]), a["lab"], train, names, a["T"], a["neg"], float(a["scale"]))


def draw(data: Data, classes: Sequence[int], shots: int, seed: int) -> np.ndarray:
    """Training clips of each class; of all classes, those that `ga2clip train --protocol few-shot` draws."""
    rng = np.random.default_rng(seed)
    own = [np.flatnonzero(data.train & (data.labels == c)) for c in classes]
    return np.concatenate([rows[np.sort(rng.permutation(len(rows))[:shots])] for rows in own]).astype(int)


def draws(
    data: Data, shots: int, seeds: Sequence[int], tune: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each seed the examples of all classes, and the clips to test."""
    for seed in seeds:
        drawn = draw(data, range(len(data.names)), shots, seed)
        yield drawn, tested(data, drawn, tune)


def row(*cells: object) -> None:
    """Print a line of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head_row(*cells: object) -> None:
    """Print the first two lines of a table."""
    print()
    row(*cells)
    print("|---" * len(cells) + "|")


def tested(data: Data, drawn: np.ndarray, tune: bool) -> np.ndarray:
    """The clips to test: the test clips, or with `tune` the training clips that were not drawn."""
    if not tune:
        return np.flatnonzero(~data.train & (data.labels >= 0))
    return np.setdiff1d(np.flatnonzero(data.train), drawn)


def cell(hits: list[np.ndarray]) -> str:
    """Mean accuracy with its 95 % interval over seeds and clips."""
    same = len({len(row) for row in hits}) == 1
    clips = clip_variance(np.stack(hits)) if same else 0.0
    means = [float(row.mean()) for row in hits]
    return percent(float(np.mean(means)), mean_interval(means, clips))


def accuracies(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """All classes taught: the table of rules by number of clips."""
    head_row("", *(f"K = {shots}" for shots in SHOTS), f"s to learn, K = {SHOTS[-1]}")
    for name, rule in RULES.items():
        cells, seconds = [], 0.0
        for shots in SHOTS:
            hits = []
            for drawn, clips in draws(data, shots, seeds, tune):
                begun = time.perf_counter()
                scores = rule(data, drawn)
                seconds = time.perf_counter() - begun
                hits.append(scores(data.video[clips]).argmax(1) == data.labels[clips])
            cells.append(cell(hits))
        row(name, *cells, f"{seconds:.2f}")


def protection(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """A few classes taught, among all: what it does to them and to the others, whose names stay texts."""
    whose = ("old", "new")
    head_row(
        "classes taught × clips", *(f"{w}, {how}" for w in whose for how in ("before", "share 1", "taught"))
    )
    for taught, shots in ((1, 1), (1, 5), (3, 1), (3, 5), *((10, shots) for shots in SHOTS)):
        found: dict[str, list[float]] = {}
        for seed in seeds:
            new = np.random.default_rng(1000 + seed).choice(len(data.names), taught, replace=False)
            drawn = draw(data, new, shots, seed)
            clips = tested(data, drawn, tune)
            fresh = np.isin(data.labels[clips], new)
            for rule in (zero_shot, alone, teach):
                right = rule(data, drawn)(data.video[clips]).argmax(1) == data.labels[clips]
                for which, part in zip(whose, (~fresh, fresh), strict=True):
                    found.setdefault(f"{which} {rule.__name__}", []).append(float(right[part].mean()))
        change = np.subtract(found["old teach"], found["old zero_shot"])
        half = mean_interval(list((1 + change) / 2))  # it takes fractions
        low, high = 200 * half.low - 100, 200 * half.high - 100
        shown = {key: f"{100 * np.mean(values):.1f}" for key, values in found.items()}
        shown["old teach"] += f" (change {100 * change.mean():+.1f} [{low:+.1f}, {high:+.1f}])"
        row(
            f"{taught} × {shots}",
            *(shown[f"{w} {rule.__name__}"] for w in whose for rule in (zero_shot, alone, teach)),
        )


def calibration(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """Expected calibration error (15 bins) with the model's scale, and with that fitted on held-out examples."""
    head_row("K", "zero-shot", "taught, scale kept", "taught, scale fitted")
    for shots in SHOTS:
        errors = []
        for drawn, clips in draws(data, shots, seeds, tune):
            plain = data.scale * zero_shot(data, drawn)(data.video[clips])
            own = chosen(head(data, drawn))
            scores = asked(own, data)(data.video[clips])
            fitted = fitted_scale(own, HeldOut.of(own, data.negatives))
            logits = (plain, data.scale * scores, fitted * scores)
            errors.append([errors_of(softmax(part), data.labels[clips])[0] for part in logits])
        row(shots, *(f"{100 * value:.1f}" for value in np.mean(errors, axis=0)))


def sure(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """How often sets of 90 % coverage hold the truth, with a threshold from held-out examples, and their size; and mean
    F1 over classes by themselves with a threshold of a half for all, and with the fitted ones.

    Counted are the draws whose share lies in its 95 % interval round 90 %: the binomial one, which knows the chance in
    the test clips, and the beta-binomial one, which also knows that in the examples.
    """
    head_row(
        *("K", "examples", "sets hold, %", "in the binomial interval", "in the beta-binomial one"),
        *("classes in a set", "F1, threshold 0.5", "F1, fitted thresholds"),
    )
    for shots in SHOTS:
        held, sizes, inside, f1 = [], [], np.zeros(2, int), []
        count = shots * len(data.names)
        for drawn, clips in draws(data, shots, seeds, tune):
            own = head(data, drawn)
            fitted = TaughtProbabilities.fit(own, data.negatives, "softmax")
            assert fitted.calibration is not None
            group, usual = fitted.calibration.tuned, fitted.calibration.usual_threshold
            scores = asked(fitted.applied_to(own), data)(data.video[clips])
            logits, labels = fitted.scale * scores, data.labels[clips]
            found = Sets.of(softmax(logits), labels, np.array(group.misses))
            place = math.ceil((count + 1) * 0.9)
            spreads = stats.binom(len(clips), 0.9), stats.betabinom(len(clips), place, count + 1 - place)
            for number, (low, high) in enumerate(spread.ppf([0.025, 0.975]) for spread in spreads):
                inside[number] += low <= int(found.covered.sum()) <= high
            held.append(float(found.covered.mean()))
            sizes.append(float(found.sizes.mean()))
            alone = 1 / (1 + np.exp(-np.clip(group.slope * logits + group.offset, -700, 700)))
            cuts = np.array([fitted.calibration.thresholds.get(name, usual) for name in data.names])
            f1.append([mean_f1(alone >= cut, labels) for cut in (0.5, cuts)])
        kept = [f"{number} of {len(seeds)}" for number in inside]
        scores = [interval(list(values)) for values in np.transpose(f1)]
        row(shots, count, interval(held), *kept, f"{np.mean(sizes):.1f}", *scores)


def interval(values: list[float]) -> str:
    """Mean and 95 % interval over draws, in percent."""
    return percent(float(np.mean(values)), mean_interval(values))


def mean_f1(taken: np.ndarray, labels: np.ndarray) -> float:
    """2TP/(2TP + FP + FN), mean over the classes. taken: bool (N, C)."""
    truth = np.eye(taken.shape[1], dtype=bool)[labels]
    return float((2 * (taken & truth).sum(0) / np.maximum(taken.sum(0) + truth.sum(0), 1)).mean())


def rejection(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """All classes taught, and examples of "none of these": what the fitted threshold keeps and rejects.

    The threshold before teaching is the best one for half of the irrelevant clips and the training clips; the other
    half is tested.
    """
    irrelevant = np.flatnonzero(data.labels < 0)
    if not len(irrelevant):
        return
    head_row("K", "examples of none", "threshold before, kept / rejected", "fitted, kept / rejected")
    for shots in (0, 1, 4, 16):
        for none in (0, 1, 5, 20) if shots else (0,):
            rows = []
            for seed in seeds:
                order = np.random.default_rng(seed).permutation(irrelevant)
                known, other = np.array_split(order, 2)
                train = np.flatnonzero(data.train)
                before = best_cut(margins(data, train), margins(data, known))
                drawn = draw(data, range(len(data.names)), shots, seed)
                clips = tested(data, drawn, tune)
                if not shots:
                    own, threshold = None, before
                else:
                    own = replace(head(data, drawn, known[:none]), threshold_before=before)
                    own = TaughtProbabilities.fit(own, data.negatives, "softmax").applied_to(own)
                    threshold = float(own.threshold or 0.0)
                good, bad = margins(data, clips, own), margins(data, other, own)
                rows.append(
                    [part for t in (before, threshold) for part in ((good >= t).mean(), (bad < t).mean())]
                )
            a, b, c, d = (f"{100 * value:.1f}" for value in np.mean(rows, axis=0))
            row(shots or "untaught", none, f"{a} / {b}", f"{c} / {d}")


def margins(data: Data, clips: np.ndarray, own: Head | None = None) -> np.ndarray:
    """The best score of a class minus that of a negative, by the texts or by what was taught."""
    x = data.video[clips]
    if own is None:
        return np.asarray((x @ data.texts.T).max(1) - (x @ data.negatives.T).max(1))
    question = own.question(data.names, data.texts, data.negatives)
    return np.asarray(question.of_classes(x).max(1) - question.negatives.scores(x).max(1))


TABLES = {table.__name__: table for table in (protection, accuracies, calibration, sure, rejection)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="", help="write the features of this model, and stop")
    parser.add_argument("--root", type=Path, default=Path("data/stickfigures"))
    parser.add_argument("--tune", action="store_true", help="report on training clips that were not drawn")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 11)))
    args = parser.parse_args()
    if args.model:
        write_features(args.model, args.root, args.features[0])
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it would fail
    for path in args.features:
        data = read_data(path)
        clips = len(tested(data, np.zeros(0, int), args.tune))
        print(f"\n## {path.stem}: {len(data.names)} classes, {clips} clips tested")
        for table in args.tables:
            TABLES[table](data, args.seeds, args.tune)
    print(f"\nPeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
