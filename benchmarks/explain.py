"""Whether `predict --explain` finds the action: clips with the action in a known part, and something else in the rest.

    python benchmarks/explain.py --model tiny --features tiny.npz
    python benchmarks/explain.py --model runs/ga2/bundle --features ga2.npz
    ga2clip train --dataset stickfigures-order --method coop --set method.pooling=attention --frames 8 --out runs/pooled
    python benchmarks/explain.py --model runs/pooled --features pooled.npz --dataset stickfigures-order

Each clip has 12 frames; 3 to 7 in a row show an action of one of the classes, the others an irrelevant scene of that
length (nothing, weather, patterns, text, shapes). The share is that of the positive weight that lies in the action,
for the true class; chance is the share of the frames. It is also given for the clips that are answered rightly, as a
wrong answer may well be carried by other frames. Evenness is measured on clips that show the action all the time: the
effective number of frames (exponential of the entropy of their weights) as a share of the 12.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ga2clip.data.stickfigures.empty import EMPTY_KINDS
from ga2clip.data.stickfigures.render import render_action, render_empty
from ga2clip.data.stickfigures.sets import CLASS_SETS
from ga2clip.evaluation.open_predictor import open_predictor
from ga2clip.evaluation.statistics import mean_interval, percent
from ga2clip.runtime import Predictor
from ga2clip.runtime.calibration import softmax
from ga2clip.runtime.explain import Pool, explain, shapley_values
from ga2clip.runtime.scoring import Scorer

FRAMES, SEED = 12, 9_000_000
Rule = Callable[[np.ndarray, np.ndarray, int, float, Pool], np.ndarray]
"""Frame features (T, D), class rows (C, D), number of the class, scale, pooling → weights (T,) that may be negative."""


def draw(dataset: str, clips: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips uint8 (N, 12, H, W, 3), where their action is, bool (N, 12), and the numbers of their classes (N,).

    The last 40 show the action all the time.
    """
    rng, actions = np.random.default_rng(SEED), list(CLASS_SETS[dataset].by_name.values())
    shown, masks, labels = [], [], []
    for number in range(clips + 40):
        label = number % len(actions)
        length = int(rng.integers(3, 8)) if number < clips else FRAMES
        start = int(rng.integers(0, FRAMES - length + 1))
        mask = np.zeros(FRAMES, bool)
        mask[start : start + length] = True
        rest = render_empty(EMPTY_KINDS[number % len(EMPTY_KINDS)], SEED + number, frames=2 * FRAMES)[1::2]
        if actions[label].once:  # it begins and ends in its part
            clip = rest.copy()
            clip[mask] = render_action(actions[label], SEED + number, frames=2 * length)[1::2]
        else:
            action = render_action(actions[label], SEED + number, frames=2 * FRAMES)[1::2]
            clip = np.where(mask[:, None, None, None], action, rest)
        shown.append(clip)
        masks.append(mask)
        labels.append(label)
    return np.stack(shown), np.stack(masks), np.array(labels)


def terms(features: np.ndarray, rows: np.ndarray, label: int, *_: object) -> np.ndarray:
    """The terms of the score, as if the video were the mean of its frames."""
    return features @ rows[label]


def against(features: np.ndarray, rows: np.ndarray, label: int, scale: float, pool: Pool) -> np.ndarray:
    """The terms of the score less those of the other classes, each by its probability."""
    likely = softmax(scale * _score(pool(features[None]), rows))[0]
    likely[label] = 0
    return features @ (rows[label] - likely @ rows / max(likely.sum(), 1e-12))


def left_out(features: np.ndarray, rows: np.ndarray, label: int, _: float, pool: Pool) -> np.ndarray:
    """How far the score falls when the frame is left out."""
    others = np.stack([np.delete(features, frame, axis=0) for frame in range(len(features))])
    return _score(pool(features[None]), rows)[:, label] - _score(pool(others), rows)[:, label]


def shapley(features: np.ndarray, rows: np.ndarray, label: int, _: float, pool: Pool) -> np.ndarray:
    """Shapley values: the weights of `--explain`."""
    return shapley_values(features, rows[label : label + 1], pool)[:, 0]


RULES: dict[str, Rule] = {
    "terms of the score": terms,
    "terms against the other classes": against,
    "leaving the frame out": left_out,
    "**Shapley values**": shapley,
}


def _score(videos: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(videos / np.maximum(np.linalg.norm(videos, axis=1, keepdims=True), 1e-12) @ rows.T)


def report(predictor: Predictor, features: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> None:
    """The table of the rules, and how far contributions are from adding up."""
    scorer = predictor.scorer()
    rows, scale = scorer.features.astype(np.float64), scorer.scale
    best = np.array([_score(predictor.pool(own[None]), rows)[0].argmax() for own in features])
    part = masks.mean(axis=1) < 1
    right = best[part] == labels[part]
    print(
        f"{part.sum()} clips, {percent(float(right.mean()))} answered rightly, "
        f"chance {percent(float(masks[part].mean()))}\n"
    )
    print(
        "| weight | in the action, true class | in the action, right answers | frame of most weight is in the action "
        "| evenness |\n|---|---|---|---|---|"
    )
    for name, rule in RULES.items():
        weights = np.stack(
            [
                rule(own, rows, label, scale, predictor.pool)
                for own, label in zip(features, labels, strict=True)
            ]
        )
        positive = np.maximum(weights, 0)
        total = positive.sum(axis=1, keepdims=True)
        # Where nothing speaks for the class, all frames alike: chance.
        share = np.where(total > 0, positive / np.maximum(total, 1e-12), 1 / weights.shape[1])
        inside = (share * masks).sum(axis=1)[part]
        most = masks[np.arange(len(masks)), share.argmax(axis=1)][part]
        even = np.exp(-(share * np.log(np.maximum(share, 1e-12))).sum(axis=1))[~part] / weights.shape[1]
        print(
            f"| {name} | {cell(inside)} | {cell(inside[right])} | {cell(most)} | {percent(float(even.mean()))} |",
            flush=True,
        )
    print(
        f"\nlargest distance of contributions and rest from the score: {distance(predictor, scorer, features):.1g}"
    )


def cell(values: np.ndarray) -> str:
    """Mean with its 95 % interval over clips."""
    found = [float(value) for value in values]
    return percent(float(np.mean(found)), mean_interval(found))


def distance(predictor: Predictor, scorer: Scorer, features: np.ndarray) -> float:
    """How far what `explain` says is from adding up to the score of the best class, without the part of no frame."""
    apart = 0.0
    for own in features:
        scores = scorer.scores(_unit(predictor.pool(own[None])))
        label = scorer.labels[int(scores[0].argmax())]
        [part] = explain(scorer, own, predictor.pool, [label], range(len(own))).classes
        apart = max(apart, abs(sum(part.contributions) - float(scores.max())))
    return apart


def _unit(videos: np.ndarray) -> np.ndarray:
    return np.asarray(videos / np.linalg.norm(videos, axis=1, keepdims=True), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--features", type=Path, required=True, help="read from there, or written where missing"
    )
    parser.add_argument("--dataset", default="stickfigures", choices=list(CLASS_SETS))
    parser.add_argument("--clips", type=int, default=400)
    args = parser.parse_args()
    with open_predictor(args.model, classes=list(CLASS_SETS[args.dataset].by_name), threads=1) as predictor:
        if not args.features.exists():
            shown, masks, labels = draw(args.dataset, args.clips)
            found = np.stack([predictor.encode_frames(predictor.prepare(clip)) for clip in shown])
            np.savez(args.features, features=found, masks=masks, labels=labels)
        with np.load(args.features) as stored:
            report(predictor, stored["features"], stored["masks"], stored["labels"])


if __name__ == "__main__":
    main()
