"""How probabilities of new names could be calibrated: what was tried, chosen on training clips of the novel classes.

    ga2clip prepare --dataset stickfigures
    ga2clip export runs/ga2
    ga2clip train --dataset stickfigures --method zero-shot --out runs/zero-shot
    ga2clip export runs/zero-shot
    OMP_NUM_THREADS=1 python benchmarks/calibration.py runs/ga2 runs/zero-shot --features calibration

A rule is fitted as `export` fits it, on training clips of base classes that the shots left over (all of them for an
untuned model), and measured on the same clips held out in five turns (base) and on all training clips of the novel
classes (novel), which nothing was tuned or fitted on. Test clips are not looked at. "As if new": the base classes by
the texts of the untuned text tower.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from ga2clip.runtime.calibration import softmax, softmax_with_negatives
from ga2clip.runtime.fit_calibration import errors_of
from ga2clip.runtime.reliability import brier_score
from ga2clip.runtime.scoring import normalise

if TYPE_CHECKING:
    from ga2clip.data.manifest import Clip


@dataclass(frozen=True)
class Clips:
    """Unit features of N clips, C classes and the negative prompts, the numbers of the clips' classes, the scale."""

    video: np.ndarray
    labels: np.ndarray
    texts: np.ndarray
    negatives: np.ndarray
    scale: float

    @property
    def logits(self) -> np.ndarray:
        """(N, C)."""
        return np.asarray(self.scale * self.video.astype(np.float64) @ self.texts.T)

    def rows(self, chosen: np.ndarray) -> "Clips":
        """Some of the clips."""
        return replace(self, video=self.video[chosen], labels=self.labels[chosen])


Rule = Callable[[Clips], np.ndarray]
"""Clips → probabilities (N, C)."""
Fit = Callable[[Clips], Rule]


def read_clips(run: Path, cache: Path) -> tuple[Clips, Clips, Clips]:
    """Base clips with their own texts and with untuned ones, and novel clips."""
    if not cache.exists():
        write_clips(run, cache)
    with np.load(cache) as a:
        rest = a["negatives"], float(a["scale"])
        own = Clips(normalise(a["base"]), a["base_labels"], normalise(a["base_texts"]), *rest)
        novel = Clips(normalise(a["novel"]), a["novel_labels"], normalise(a["novel_texts"]), *rest)
        return own, replace(own, texts=normalise(a["untuned"])), novel


def write_clips(run: Path, cache: Path) -> None:
    """Encode the training clips of base and novel classes with a run's bundle."""
    from ga2clip.data.protocols import load_task
    from ga2clip.run import load_run
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.model import Encoded
    from ga2clip_export.export import untuned_texts

    opened = load_run(run)
    model, (manifest, task) = opened.model(), load_task(opened.settings)
    held = [*task.val, *task.unused, *(() if model.trainable_parameters() else task.train)]
    [novel] = [part.classes for part in task.evals if part.name == "novel"]
    others = [c for c in manifest.clips if c.split == "train" and c.label in novel]
    with Predictor(run / "bundle", provider="cpu", threads=1) as predictor:

        def video(clips: "Sequence[Clip]") -> np.ndarray:
            found = predictor.encode_files([task.root / clip.path for clip in clips])
            return np.stack([part.video for part in found if isinstance(part, Encoded)])

        np.savez(
            cache,
            base=video(held),
            base_labels=np.array([task.classes.index(str(clip.label)) for clip in held]),
            base_texts=predictor.encode_classes(task.classes),
            untuned=untuned_texts(model),
            novel=video(others),
            novel_labels=np.array([novel.index(str(clip.label)) for clip in others]),
            novel_texts=predictor.encode_classes(novel),
            negatives=predictor.model.negatives,
            scale=predictor.model.scale,
        )


def lowest(loss: Callable[[np.ndarray], float], *starts: float) -> np.ndarray:
    """Where a loss of a few numbers is smallest."""
    return np.asarray(minimize(loss, np.array(starts), method="Nelder-Mead", options={"maxiter": 400}).x)


def by_brier(predict: Callable[[np.ndarray, Clips], np.ndarray], clips: Clips, *starts: float) -> Rule:
    """The rule with the numbers of the smallest Brier score on these clips."""
    at = lowest(lambda at: float(brier_score(predict(at, clips), clips.labels).mean()), *starts)
    return lambda other: predict(at, other)


def by_likelihood(predict: Callable[[np.ndarray, Clips], np.ndarray], clips: Clips, *starts: float) -> Rule:
    """The rule with the numbers of the largest likelihood."""
    rows = np.arange(len(clips.labels))
    at = lowest(
        lambda at: -float(np.log(np.maximum(predict(at, clips)[rows, clips.labels], 1e-300)).mean()), *starts
    )
    return lambda other: predict(at, other)


def temperature(at: np.ndarray, clips: Clips) -> np.ndarray:
    """A softmax of the logits, divided by a number."""
    return softmax(clips.logits / np.exp(at[0]))


def uniform(at: np.ndarray, clips: Clips) -> np.ndarray:
    """The same, mixed with the uniform distribution."""
    share = 1 / (1 + np.exp(-at[1]))
    return (1 - share) * temperature(at, clips) + share / len(clips.texts)


def two(at: np.ndarray, clips: Clips) -> np.ndarray:
    """A sharp and a flat softmax, mixed."""
    share = 1 / (1 + np.exp(-at[2]))
    return (1 - share) * temperature(at, clips) + share * temperature(at[1:], clips)


def student(at: np.ndarray, clips: Clips) -> np.ndarray:
    """Student's tails in place of the exponential."""
    apart = (clips.logits.max(1, keepdims=True) - clips.logits) / np.exp(at[0])
    weights = (1 + apart / np.exp(at[1])) ** -(1 + np.exp(at[1]))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def spread(at: np.ndarray, clips: Clips) -> np.ndarray:
    """A temperature in proportion to the spread of the class texts."""
    width = np.sqrt(((clips.texts - clips.texts.mean(0)) ** 2).sum(1).mean())
    return softmax(clips.logits / (np.exp(at[0]) * width))


def crowding(at: np.ndarray, clips: Clips) -> np.ndarray:
    """A temperature by the distance of class texts from their nearest neighbours: closer sets, less sure."""
    cosines = clips.texts @ clips.texts.T - 2 * np.eye(len(clips.texts))
    return softmax(clips.logits / np.exp(at[0] + at[1] * np.log(np.median(1 - cosines.max(1)))))


def by_cosine(at: np.ndarray, clips: Clips) -> np.ndarray:
    """A temperature for each clip by its best cosine: clips that are like no class are less sure."""
    best = clips.logits.max(1, keepdims=True) / clips.scale
    return softmax(clips.logits / np.exp(at[0] + at[1] * best))


def by_margin(at: np.ndarray, clips: Clips) -> np.ndarray:
    """A temperature for each clip by how far its best class is ahead of the second."""
    first, second = -np.sort(-clips.logits, axis=1)[:, :2].T / clips.scale
    return softmax(clips.logits / np.exp(at[0] + at[1] * (first - second))[:, None])


def with_negatives(at: np.ndarray, clips: Clips) -> np.ndarray:
    """The negative prompts take part; what they get is shared by the classes alike."""
    negatives = clips.scale * clips.video.astype(np.float64) @ clips.negatives.T + at[1]
    return softmax_with_negatives(clips.logits / np.exp(at[0]), negatives / np.exp(at[0]))


RULES: dict[str, tuple[Fit, bool]] = {
    "nothing": (lambda _: lambda clips: softmax(clips.logits), False),
    "temperature by likelihood, own class texts": (lambda c: by_likelihood(temperature, c, 0.5), False),
    "temperature by Brier score, own class texts": (lambda c: by_brier(temperature, c, 0.5), False),
    "temperature by Brier score, tuned classes as if new": (lambda c: by_brier(temperature, c, 0.5), True),
    "temperature by likelihood, tuned classes as if new": (
        lambda c: by_likelihood(temperature, c, 0.5),
        True,
    ),
    "temperature and a share of the uniform distribution": (lambda c: by_brier(uniform, c, 0.5, -3.0), True),
    "a sharp and a flat softmax mixed": (lambda c: by_brier(two, c, 0.3, 1.5, -1.0), True),
    "a softmax with Student's tails": (lambda c: by_brier(student, c, 0.5, 1.0), True),
    "temperature by the spread of the class texts": (lambda c: by_brier(spread, c, 0.5), True),
    "temperature by the nearest neighbours of the class texts": (
        lambda c: by_brier(lambda at, other: crowding(np.array([at[0], -1.0]), other), c, 0.0),
        True,
    ),
    "temperature by the clip's best cosine": (lambda c: by_brier(by_cosine, c, 0.5, 0.0), True),
    "temperature by the clip's margin": (lambda c: by_brier(by_margin, c, 0.5, 0.0), True),
    "**negative prompts take part**": (lambda c: by_brier(with_negatives, c, 0.5, -1.0), True),
}
"""How a rule is fitted to clips, and whether to the base classes as if they were new."""


def base_error(fit: Fit, clips: Clips) -> float:
    """Of the clips that it was fitted on, each held out in one of five turns."""
    found = np.zeros((len(clips.labels), len(clips.texts)))
    fold = np.arange(len(clips.labels)) % 5
    for turn in range(5):
        found[fold == turn] = fit(clips.rows(fold != turn))(clips.rows(fold == turn))
    return errors_of(found, clips.labels)[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument(
        "--features", type=Path, required=True, help="folder of features, written where missing"
    )
    args = parser.parse_args()
    args.features.mkdir(exist_ok=True)
    sets = {run.name: read_clips(run, args.features / f"{run.name}.npz") for run in args.runs}
    for name, (own, _, novel) in sets.items():
        print(f"{name}: {len(own.labels)} base clips, {len(novel.labels)} novel clips")
    print("\n| fitted how | " + " | ".join(f"{name}: base | novel | Brier, novel" for name in sets) + " |")
    print("|---" * (1 + 3 * len(sets)) + "|")
    for rule, (fit, as_new) in RULES.items():
        cells = []
        for own, untuned, novel in sets.values():
            fitted_on = untuned if as_new else own
            found = fit(fitted_on)(novel)
            ece, brier = errors_of(found, novel.labels)
            cells.append(f"{100 * base_error(fit, fitted_on):.1f} | {100 * ece:.1f} | {brier:.3f}")
        print(f"| {rule} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
