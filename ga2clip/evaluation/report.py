"""`Report`: the scores of a run's test sets as a table, as JSON, and as files.

`report.json` is what `ga2clip eval --json` prints; `clips.csv` has a line per clip, `per_class.csv` one per class;
`confusion.png` shows who is taken for whom, `reliability.png` how often answers of each confidence are right.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.evaluation import clips
from ga2clip.evaluation.clips import ClipAnswer
from ga2clip.evaluation.metrics import Scores, harmonic_mean
from ga2clip.evaluation.reliability import Reliability, draw_reliability
from ga2clip.evaluation.statistics import (
    Interval,
    harmonic_mean_interval,
    mcnemar,
    mean_interval,
    p_value,
    wilson,
)
from ga2clip.files import write_figure, write_text
from ga2clip.text import csv_lines, printable

REPORT = "report.json"
_SETTING = ("template", "views", "frames", "class_names", "descriptions", "examples")
_NAMES_FIT = 200  # classes up to which the confusion matrix is labelled
_CELL = 0.15  # inches for a class: its name in 7 points fits
INTERVALS = (
    "95 % over clips: Wilson score; the harmonic mean's from Jeffreys posteriors of both halves; "
    "a mean over splits: Student's t"
)


@dataclass(frozen=True)
class SetReport:
    """One test set.

    name: `base`, `novel` or `test`. broken: (file, reason). split: which official split. clips: every answer.
    reliability: confidence against accuracy; None: not measured.
    """

    name: str
    classes: tuple[str, ...]
    scores: Scores
    broken: tuple[tuple[str, str], ...] = ()
    split: int = 1
    clips: tuple[ClipAnswer, ...] = ()
    reliability: Reliability | None = None

    @property
    def correct(self) -> int:
        """Clips answered rightly."""
        return int(np.trace(self.scores.confusion))

    @property
    def interval(self) -> Interval:
        """Of the top-1, over clips."""
        return wilson(self.correct, self.scores.n)


@dataclass(frozen=True)
class Report:
    """What one model reached under one protocol.

    about: what was measured and how: run, run_sha256, dataset, method, seed, backbone, template, views, frames,
    class_names, descriptions, examples. folder: the name of the folder below `RUN/eval` that is this measurement's own.
    """

    protocol: str
    rule: str
    sets: tuple[SetReport, ...]
    about: dict[str, Any] = field(default_factory=dict)
    folder: str = ""

    @property
    def harmonic_mean(self) -> float | None:
        """The harmonic mean of base and novel top-1; None if the protocol has no base and novel classes."""
        halves = [part.scores.top1 for part in self.sets if part.name in ("base", "novel")]
        return harmonic_mean(halves) if len(halves) == 2 else None

    @property
    def harmonic_mean_interval(self) -> Interval:
        """Of the harmonic mean, over clips."""
        halves = [part for part in self.sets if part.name in ("base", "novel")]
        return harmonic_mean_interval([(part.correct, part.scores.n) for part in halves])

    def against(self, other: "Report") -> dict[str, dict[str, float]]:
        """Difference in top-1 from another model and its p-value (exact McNemar test), by test set.

        Only sets in which both answered the same clips, of official split 1, are compared.
        """
        found = {}
        theirs = {part.name: _hits(part) for part in other.sets if part.split == other.sets[0].split}
        for part in self.sets:
            ours, known = _hits(part), theirs.get(part.name, {})
            if part.split == self.sets[0].split and ours and ours.keys() == known.keys():
                pairs = [(ours[file], known[file]) for file in ours]
                difference = sum(a - b for a, b in pairs) / len(pairs)
                p = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
                found[part.name] = {"difference": difference, "p": p}
        return found

    def to_json(self) -> dict[str, Any]:
        """Accuracies as fractions. Several official splits: the mean, `top1_std`, and `splits` one by one."""
        tree: dict[str, Any] = {"protocol": self.protocol, **self.about, "rule": self.rule}
        for name in dict.fromkeys(part.name for part in self.sets):
            parts = [part for part in self.sets if part.name == name]
            tree[name] = _numbers(parts[0]) if len(parts) == 1 else _over_splits(parts)
        if self.harmonic_mean is not None:
            tree["harmonic_mean"] = self.harmonic_mean
            tree["harmonic_mean_interval"] = _json(self.harmonic_mean_interval)
        tree["intervals"] = INTERVALS
        broken = {name: reason for part in self.sets for name, reason in part.broken}
        return tree | {"errors": [{"file": name, "error": reason} for name, reason in broken.items()]}

    def setting(self) -> str:
        """Template, views, frames, class names, descriptions and the number of training clips that the classes were
        learned from, in a line; empty where nothing of it is known.
        """
        known = {name: self.about[name] for name in _SETTING if name in self.about}
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items())

    def table(self) -> str:
        """Accuracies in percent, one line per test set, with the 95 % interval of the top-1."""
        lines = [
            f"{'':12}{'top-1':>8}  {'95 % interval':15}{'top-5':>6}{'per class':>11}{'clips':>8}{'classes':>9}"
            f"{'ECE':>7}{'Brier':>7}"
        ]
        several = len({part.split for part in self.sets}) > 1
        lines += [_row(f"{part.name} {part.split}" if several else part.name, part) for part in self.sets]
        if several:
            top1 = [part.scores.top1 for part in self.sets]
            spread = f" ± {100 * _deviation(top1):.1f}"
            lines.append(f"{'mean ± std':12}{100 * statistics.mean(top1):8.1f}{spread}")
        if self.harmonic_mean is not None:
            lines.append(f"{'HM':12}{100 * self.harmonic_mean:8.1f}  {_bounds(self.harmonic_mean_interval)}")
        broken = len({name for part in self.sets for name, _ in part.broken})
        if broken:
            lines.append(f"{broken} clips could not be read and count as wrong")
        return "\n".join([*lines, *filter(None, [self.setting()])])

    def write(self, folder: Path) -> None:
        """Write `report.json`, `clips.csv`, `per_class.csv`, `confusion.png` and `reliability.png` into `folder`,
        replacing older ones.
        """
        # ASCII, so that any file name survives.
        parts = [(part.name, part.split, part.clips) for part in self.sets]
        write_text(folder / clips.FILE_NAME, clips.clip_lines(parts))
        write_text(folder / REPORT, json.dumps(self.to_json(), indent=1) + "\n")
        write_text(folder / "per_class.csv", self._per_class())
        _draw_confusion(self.sets, folder / "confusion.png")
        shown = {
            p.name: {"": p.reliability} for p in self.sets if p.reliability and p.split == self.sets[0].split
        }
        if shown:
            draw_reliability(shown, folder / "reliability.png")

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


@dataclass(frozen=True)
class Measured:
    """A report, and that of the first run measured under its protocol, which may be itself."""

    report: Report
    first: Report

    @property
    def against(self) -> dict[str, dict[str, float]]:
        """`Report.against` the first; nothing for the first itself."""
        return {} if self.report is self.first else self.report.against(self.first)

    def text(self) -> str:
        """Head, table and comparison for a terminal."""
        about = self.report.about
        head = f"{about['run']}: {about['method']} on {about['backbone']}, {self.report.protocol}"
        lines = [printable(head), self.report.table()]
        if against := self.against:
            lines.append(comparison(against, printable(self.first.about["run"])))
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """`Report.to_json`, with the comparison."""
        against = self.against
        return self.report.to_json() | (
            {"against": {"run": self.first.about["run"], **against}} if against else {}
        )


def comparison(against: dict[str, dict[str, float]], other: str) -> str:
    """`Report.against` in a line."""
    parts = [
        f"{name} {100 * found['difference']:+.1f} points (p = {p_value(found['p'])})".replace("= <", "<")
        for name, found in against.items()
    ]
    return f"against {other}: {', '.join(parts)}; exact McNemar test on the same clips"


def _hits(part: SetReport) -> dict[str, bool]:
    return {answer.file: answer.correct for answer in part.clips}


def _json(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval.low) else list(interval)


def _numbers(part: SetReport) -> dict[str, Any]:
    scores = part.scores
    numbers = {"top1": scores.top1, "top5": scores.top5, "mean_per_class": scores.mean_class, "n": scores.n}
    known = {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in numbers.items()
    }
    return known | {"top1_interval": _json(part.interval)} | _calibration(part)


def _calibration(part: SetReport) -> dict[str, Any]:
    """Calibration error and Brier score with their intervals, where there are clips to measure them on."""
    found = part.reliability
    if found is None or not len(found.confidence):
        return {}
    ece, brier = found.intervals
    return {
        "ece": found.ece,
        "ece_interval": _json(ece),
        "brier": found.brier,
        "brier_interval": _json(brier),
    }


def _over_splits(parts: list[SetReport]) -> dict[str, Any]:
    each = [_numbers(part) for part in parts]
    keys = [
        key
        for key in ("top1", "top5", "mean_per_class", "ece", "brier")
        if all(key in split for split in each)
    ]
    means = {key: statistics.mean(split[key] for split in each) for key in keys}
    top1 = [split["top1"] for split in each]
    spread = {
        "top1_std": _deviation(top1),
        "top1_interval": _json(mean_interval(top1)),
        "n": sum(split["n"] for split in each),
    }
    return means | spread | {"splits": each}


def _deviation(values: list[float]) -> float:
    """The population standard deviation over splits (numpy's default, as papers report it)."""
    return statistics.pstdev(values)


def _row(name: str, part: SetReport) -> str:
    scores = part.scores
    top1, top5, mean = (100 * value for value in (scores.top1, scores.top5, scores.mean_class))
    classes = int((scores.counts > 0).sum())
    counted = (
        f"{name:12}{top1:8.1f}  {_bounds(part.interval):15}{top5:6.1f}{mean:11.1f}{scores.n:8}{classes:9}"
    )
    found = part.reliability
    return counted + (f"{100 * found.ece:7.1f}{found.brier:7.3f}" if found else "")


def _bounds(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"{100 * interval.low:.1f} – {100 * interval.high:.1f}"


def _drawable(names: Sequence[str]) -> list[str]:
    """The names as matplotlib's font can draw them: one with characters that it lacks becomes its number.

    The number is the line of the class in `per_class.csv`, from 1. A dollar sign would begin a formula.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return [
        printable(name).replace("$", r"\$")
        if all(ord(c) in known for c in printable(name))
        else f"class {number}"
        for number, name in enumerate(names, 1)
    ]


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
            names = _drawable(part.classes)
            axes.set_xticks(places, names, rotation=90, fontsize=7)
            axes.set_yticks(places, names, fontsize=7)
    # Names as long as Something-Something's take more room than the figure has.
    write_figure(path, figure, bbox_inches="tight")
