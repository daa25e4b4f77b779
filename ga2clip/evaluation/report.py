"""`Report`: the scores of a run's test sets as a table, as JSON, and as files.

`report.json` is what `ga2clip eval --json` prints; `per_class.csv` has a line per class; `confusion.png` is the
confusion matrix.
"""

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.evaluation.metrics import Scores, harmonic_mean
from ga2clip.files import write_figure, write_text
from ga2clip.text import csv_lines

_NAMES_FIT = 200  # classes up to which the confusion matrix is labelled
_CELL = 0.15  # inches for a class: its name in 7 points fits


@dataclass(frozen=True)
class SetReport:
    """One test set. name: `base`, `novel` or `test`; split: which official split; broken: (file, reason)."""

    name: str
    classes: tuple[str, ...]
    scores: Scores
    broken: tuple[tuple[str, str], ...] = ()
    split: int = 1


@dataclass(frozen=True)
class Report:
    """The results of one model under one protocol. about: run, dataset, method and backbone, as strings."""

    protocol: str
    rule: str
    sets: tuple[SetReport, ...]
    about: dict[str, str] = field(default_factory=dict)

    @property
    def harmonic_mean(self) -> float | None:
        """The harmonic mean of base and novel top-1; None if the protocol has no base and novel classes."""
        halves = [part.scores.top1 for part in self.sets if part.name in ("base", "novel")]
        return harmonic_mean(halves) if len(halves) == 2 else None

    def to_json(self) -> dict[str, Any]:
        """Accuracies as fractions. Several official splits: the mean, `top1_std`, and `splits` one by one."""
        tree: dict[str, Any] = {"protocol": self.protocol, **self.about, "rule": self.rule}
        for name in dict.fromkeys(part.name for part in self.sets):
            parts = [part for part in self.sets if part.name == name]
            tree[name] = _numbers(parts[0].scores) if len(parts) == 1 else _over_splits(parts)
        if self.harmonic_mean is not None:
            tree["harmonic_mean"] = self.harmonic_mean
        broken = {name: reason for part in self.sets for name, reason in part.broken}
        return tree | {"errors": [{"file": name, "error": reason} for name, reason in broken.items()]}

    def table(self) -> str:
        """Accuracies in percent, one line per test set."""
        lines = [f"{'':12}{'top-1':>8}{'top-5':>8}{'per class':>11}{'clips':>8}{'classes':>9}"]
        several = len({part.split for part in self.sets}) > 1
        for part in self.sets:
            name = f"{part.name} {part.split}" if several else part.name
            lines.append(_row(name, part.scores))
        if several:
            top1 = [part.scores.top1 for part in self.sets]
            lines.append(
                f"{'mean ± std':12}{100 * statistics.mean(top1):8.1f} ± {100 * _deviation(top1):.1f}"
            )
        if self.harmonic_mean is not None:
            lines.append(f"{'HM':12}{100 * self.harmonic_mean:8.1f}")
        broken = len({name for part in self.sets for name, _ in part.broken})
        if broken:
            lines.append(f"{broken} clips could not be read and count as wrong")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `report.json`, `per_class.csv` and `confusion.png` into `folder`, replacing older ones."""
        # ASCII, so that any file name survives.
        write_text(folder / "report.json", json.dumps(self.to_json(), indent=1) + "\n")
        write_text(folder / "per_class.csv", self._per_class())
        _draw_confusion(self.sets, folder / "confusion.png")

    def _per_class(self) -> str:
        rows: list[list[object]] = [["set", "split", "class", "clips", "top1", "most_often_taken_for"]]
        for part in self.sets:
            for index, name in enumerate(part.classes):
                others = part.scores.confusion[index].copy()
                others[index] = 0
                taken_for = part.classes[int(others.argmax())] if others.any() else ""
                clips, top1 = part.scores.counts[index], part.scores.per_class[index]
                accuracy = f"{top1:.4f}" if clips else ""
                rows.append([part.name, part.split, name, clips, accuracy, taken_for])
        return csv_lines(rows)


def _numbers(scores: Scores) -> dict[str, Any]:
    numbers = {"top1": scores.top1, "top5": scores.top5, "mean_per_class": scores.mean_class, "n": scores.n}
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in numbers.items()
    }


def _over_splits(parts: list[SetReport]) -> dict[str, Any]:
    each = [_numbers(part.scores) for part in parts]
    means = {key: statistics.mean(split[key] for split in each) for key in ("top1", "top5", "mean_per_class")}
    spread = {
        "top1_std": _deviation([split["top1"] for split in each]),
        "n": sum(split["n"] for split in each),
    }
    return means | spread | {"splits": each}


def _deviation(values: list[float]) -> float:
    """The population standard deviation over splits (numpy's default, as papers report it)."""
    return statistics.pstdev(values)


def _row(name: str, scores: Scores) -> str:
    top1, top5, mean = (100 * value for value in (scores.top1, scores.top5, scores.mean_class))
    return f"{name:12}{top1:8.1f}{top5:8.1f}{mean:11.1f}{scores.n:8}{int((scores.counts > 0).sum()):9}"


def _draw_confusion(sets: tuple[SetReport, ...], path: Path) -> None:
    """One square per test set (of the first split): rows are true classes, columns answers, shares of a row."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = [part for part in sets if part.split == sets[0].split]
    side = max(4.0, _CELL * min(_NAMES_FIT, max(len(part.classes) for part in shown)) + 2.5)
    layout = ConstrainedLayoutEngine(compress=True, w_pad=0.15)
    figure = Figure(figsize=(side * len(shown), side), layout=layout)
    for axes, part in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
        shares = part.scores.confusion / np.maximum(1, part.scores.counts)[:, None]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"{part.name}: {100 * part.scores.top1:.1f} %")
        axes.set_xlabel("answer")
        axes.set_ylabel("true class")
        if len(part.classes) <= _NAMES_FIT:
            places = range(len(part.classes))
            axes.set_xticks(places, part.classes, rotation=90, fontsize=7)
            axes.set_yticks(places, part.classes, fontsize=7)
    # Names as long as Something-Something's take more room than the figure has.
    write_figure(path, figure, bbox_inches="tight")
