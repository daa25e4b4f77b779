"""Rules that learn classes from a few clips, on features of `stickfigures`: the one of `ga2clip teach` and others.

    ga2clip prepare --dataset stickfigures
    python benchmarks/teach.py --features zero-shot.npz --model tiny
    python benchmarks/teach.py --features ga2.npz --model runs/ga2/bundle
    OMP_NUM_THREADS=1 python benchmarks/teach.py --features zero-shot.npz --tune
    OMP_NUM_THREADS=1 python benchmarks/teach.py --features zero-shot.npz ga2.npz

--tune reports on the training clips that no seed has drawn, instead of the test clips: the rule's constants were chosen
there, as were those of the other rules. Nothing here needs torch but a model that is no bundle.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ga2clip.evaluation.statistics import clip_variance, mean_interval, percent
from ga2clip.runtime.scoring import normalise
from ga2clip.runtime.teaching import TEXT_CLIPS, Example, Examples, Head, fitted_scale

SHOTS = (1, 2, 4, 8, 16)
Scores = Callable[[np.ndarray], np.ndarray]
"""Unit video features (N, D) → scores (N, C)."""


@dataclass(frozen=True)
class Data:
    """video: unit features (N, D). labels: class numbers, -1 for clips of no class. texts: (C, D)."""

    video: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    names: tuple[str, ...]
    texts: np.ndarray
    negatives: np.ndarray
    scale: float


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


def zero_shot(data: Data, _: np.ndarray) -> Scores:
    """Cosines with the texts."""
    return lambda x: x @ data.texts.T


def prototypes(data: Data, drawn: np.ndarray) -> Scores:
    """Text and mean of the examples, both centred and of length 1, added."""
    x, y = data.video[drawn], data.labels[drawn]
    centre, rows = x.mean(0), normalise(data.texts - data.texts.mean(0))
    for label in np.unique(y):
        rows[label] += normalise(x[y == label].mean(0) - centre)
    rows = normalise(rows)
    return lambda v: normalise(v - centre) @ rows.T


def tip_adapter(data: Data, drawn: np.ndarray) -> Scores:
    """Tip-Adapter without training (ECCV 2022): alpha 1, beta 5.5."""
    x, one_hot = data.video[drawn], np.eye(len(data.names))[data.labels[drawn]]
    return lambda v: data.scale * (v @ data.texts.T) + np.exp(-5.5 * (1 - v @ x.T)) @ one_hot


def gda(data: Data, drawn: np.ndarray) -> Scores:
    """Discriminant analysis of the examples alone, its covariance shrunk as GDA-CLIP does (ICLR 2024), plus zero-shot.
    With one clip a class there is no covariance: the identity.
    """
    x, y = data.video[drawn].astype(np.float64), data.labels[drawn]
    means = np.stack([x[y == c].mean(0) if (y == c).any() else x.mean(0) for c in range(len(data.names))])
    around, width = x - means[y], x.shape[1]
    count = max(len(x) - 1, 1)
    covariance = around.T @ around / count
    if np.trace(covariance) < 1e-9:
        covariance = np.eye(width)
    precision = width * np.linalg.inv(count * covariance + np.trace(covariance) * np.eye(width))
    rows = means @ precision
    offsets = -0.5 * (rows * means).sum(1)
    return lambda v: data.scale * (v @ data.texts.T) + v @ rows.T + offsets


def head(data: Data, drawn: np.ndarray) -> Head:
    """The rule of `ga2clip teach`."""
    items = [Example(data.names[data.labels[i]], "class", f"{i:064x}") for i in drawn]
    examples = Examples.sorted(items, data.video[drawn])
    return Head(data.names, data.texts, examples, len(data.names), data.scale, None)


def teach(data: Data, drawn: np.ndarray) -> Scores:
    """The rule of `ga2clip teach`."""
    return head(data, drawn).rows(data.names, data.texts).scores


def with_prior(share: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Data, np.ndarray], Scores]:
    """The rule with another choice of the covariance's share: of the residuals (N, D) and their classes."""

    def rule(data: Data, drawn: np.ndarray) -> Scores:
        return prior_scores(data, drawn, share)

    return rule


def prior_scores(data: Data, drawn: np.ndarray, share: Callable[[np.ndarray, np.ndarray], float]) -> Scores:
    """Scores of the rule with the text prior, its centre and length from `Head`, and a given covariance."""
    fit, texts = head(data, drawn)._fit, data.texts.astype(np.float64)
    x, y = data.video[drawn].astype(np.float64), data.labels[drawn]
    means = texts - fit.mean_text
    for c in np.unique(y):
        own = (x[y == c] - fit.centre) / fit.length
        means[c] = (TEXT_CLIPS * means[c] + own.sum(0)) / (TEXT_CLIPS + len(own))
    around, width = x - fit.centre - fit.length * means[y], x.shape[1]
    spread = (around * around).sum() / len(around)
    part = share(around, y)
    mixed = (1 - part) * np.eye(width) + part * around.T @ around / len(around) * width / spread
    rows = np.linalg.solve(mixed, means.T).T
    counts = np.bincount(y, minlength=len(means))
    offsets = -rows @ fit.centre - fit.length / 2 * (rows * means).sum(1)
    offsets -= spread / (2 * fit.length * TEXT_CLIPS) * np.sqrt(counts / (counts + TEXT_CLIPS))
    return lambda v: v @ rows.T + offsets


def oas(around: np.ndarray, _: np.ndarray) -> float:
    """Oracle approximating shrinkage (Chen et al., IEEE TSP 2010)."""
    count, width = around.shape
    s = around.T @ around / count
    square, trace = (s * s).sum(), np.trace(s) ** 2
    return float(
        1
        - min(1.0, ((1 - 2 / width) * square + trace) / ((count + 1 - 2 / width) * (square - trace / width)))
    )


def left_out(data: Data, drawn: np.ndarray) -> Scores:
    """The share of the covariance by held-out accuracy, in 8 turns."""
    shares, hits = (0.0, 0.2, 0.5, 0.7, 0.9), np.zeros(5)
    order = drawn[np.argsort(data.labels[drawn], kind="stable")]
    turns = min(8, len(order))
    fold = np.arange(len(order)) % turns
    for turn in range(turns if turns > 1 else 0):
        rest, held = order[fold != turn], order[fold == turn]
        for index, part in enumerate(shares):
            scores = prior_scores(data, rest, lambda *_, part=part: part)(data.video[held])
            hits[index] += (scores.argmax(1) == data.labels[held]).sum()
    best = shares[int(hits.argmax())]
    return prior_scores(data, drawn, lambda *_: best)


RULES: dict[str, Callable[[Data, np.ndarray], Scores]] = {
    "zero-shot": zero_shot,
    "text + class means": prototypes,
    "Tip-Adapter": tip_adapter,
    "GDA + zero-shot": gda,
    "text prior, identity": with_prior(lambda *_: 0.0),
    "text prior, OAS": with_prior(oas),
    "text prior, held-out share": left_out,
    "**teach**": teach,
}


def draw(data: Data, classes: Sequence[int], shots: int, seed: int) -> np.ndarray:
    """Training clips of each class."""
    rng = np.random.default_rng(seed)
    own = [np.flatnonzero(data.train & (data.labels == c)) for c in classes]
    return np.concatenate([rng.choice(rows, shots, replace=False) for rows in own])


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
    print("\n| | " + " | ".join(f"K = {shots}" for shots in SHOTS) + " | s to learn, K = 16 |")
    print("|---" * (len(SHOTS) + 2) + "|")
    for name, rule in RULES.items():
        cells, seconds = [], 0.0
        for shots in SHOTS:
            hits = []
            for seed in seeds:
                drawn = draw(data, range(len(data.names)), shots, seed)
                clips = tested(data, drawn, tune)
                begun = time.perf_counter()
                scores = rule(data, drawn)
                seconds = time.perf_counter() - begun
                hits.append(scores(data.video[clips]).argmax(1) == data.labels[clips])
            cells.append(cell(hits))
        print(f"| {name} | " + " | ".join(cells) + f" | {seconds:.3f} |", flush=True)


def protection(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """A few classes taught, among all: what it does to them and to the others, whose names stay texts."""
    print(
        "\n| classes taught × clips | old, before | old, taught | new, before | new, taught |\n|---|---|---|---|---|"
    )
    for taught, shots in ((1, 1), (1, 5), (3, 1), (3, 5), (10, 1), (10, 2), (10, 4), (10, 8), (10, 16)):
        rows: dict[str, list[float]] = {}
        for seed in seeds:
            new = np.random.default_rng(1000 + seed).choice(len(data.names), taught, replace=False)
            drawn = draw(data, new, shots, seed)
            clips = tested(data, drawn, tune)
            fresh = np.isin(data.labels[clips], new)
            for when, rule in (("before", zero_shot), ("taught", teach)):
                right = rule(data, drawn)(data.video[clips]).argmax(1) == data.labels[clips]
                rows.setdefault(f"old {when}", []).append(float(right[~fresh].mean()))
                rows.setdefault(f"new {when}", []).append(float(right[fresh].mean()))
        change = np.subtract(rows["old taught"], rows["old before"])
        half = mean_interval(list((1 + change) / 2))  # it takes fractions
        low, high = 200 * half.low - 100, 200 * half.high - 100
        shown = {key: f"{100 * np.mean(values):.1f}" for key, values in rows.items()}
        print(
            f"| {taught} × {shots} | {shown['old before']} | {shown['old taught']} "
            f"(change {100 * change.mean():+.1f} [{low:+.1f}, {high:+.1f}]) "
            f"| {shown['new before']} | {shown['new taught']} |",
            flush=True,
        )


def calibration(data: Data, seeds: Sequence[int], tune: bool) -> None:
    """Expected calibration error (15 bins) with the model's scale, and with that fitted on held-out examples."""
    print("\n| K | zero-shot | taught, scale kept | taught, scale fitted |\n|---|---|---|---|")
    for shots in SHOTS:
        errors: dict[str, list[float]] = {}
        for seed in seeds:
            drawn = draw(data, range(len(data.names)), shots, seed)
            clips = tested(data, drawn, tune)
            own, plain = head(data, drawn), zero_shot(data, drawn)(data.video[clips])
            scores = own.rows(data.names, data.texts).scores(data.video[clips])
            for key, logits in (
                ("before", data.scale * plain),
                ("kept", data.scale * scores),
                ("fitted", fitted_scale(own) * scores),
            ):
                errors.setdefault(key, []).append(expected_error(logits, data.labels[clips]))
        print(
            f"| {shots} | " + " | ".join(f"{100 * np.mean(errors[key]):.1f}" for key in errors) + " |",
            flush=True,
        )


def expected_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the best class's probability."""
    likely = np.exp(logits - logits.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    sure, right = likely.max(1), likely.argmax(1) == labels
    bins = np.minimum((sure * 15).astype(int), 14)
    return float(sum(abs(sure[bins == b].sum() - right[bins == b].sum()) for b in range(15)) / len(labels))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="", help="write the features of this model, and stop")
    parser.add_argument("--root", type=Path, default=Path("data/stickfigures"))
    parser.add_argument("--tune", action="store_true", help="report on training clips that were not drawn")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    args = parser.parse_args()
    if args.model:
        write_features(args.model, args.root, args.features[0])
        return
    for path in args.features:
        data = read_data(path)
        print(f"\n## {path.stem}: {len(data.names)} classes")
        for table in (accuracies, protection, calibration):
            table(data, args.seeds, args.tune)


if __name__ == "__main__":
    main()
