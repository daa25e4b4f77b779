"""A comparison as text, Markdown, CSV and LaTeX, and as a plot."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ga2clip.evaluation.statistics import Interval, p_value, percent
from ga2clip.experiments.compare import Comparison, Pair
from ga2clip.experiments.tables import FORMS, check_form
from ga2clip.files import write_figure
from ga2clip.text import csv_lines, printable

_LABEL = 36  # characters of a method's name on a line of the plot


def render(comparison: Comparison, form: str) -> str:
    """The comparison in one of the formats of `tables`. Raises UserError for another name."""
    check_form(form)
    if form == "csv":
        return _csv(comparison)
    return FORMS[form](_tables(comparison), _notes(comparison))


def _csv(comparison: Comparison) -> str:
    """One row per method and test set, then one per pair, whose value is the difference."""
    rows: list[Sequence[object]] = [
        ("method", "against", "set", "seeds", "value", "low", "high", "p", "test")
    ]
    for method in comparison.methods:
        for name in comparison.names:
            numbers = map(_number, (method.mean(name), *method.interval(name)))
            rows.append((method.name, "", name, len(method.runs), *numbers, "", ""))
    for pair in comparison.pairs:
        numbers = map(_number, (pair.difference, *pair.interval, pair.p))
        rows.append((pair.ours, pair.theirs, pair.on, pair.seeds, *numbers, pair.test))
    return csv_lines(rows).rstrip("\n")


def draw(comparison: Comparison, path: Path) -> None:
    """Draw means and intervals: a panel per test set, a line per method, names once, at the left.

    Raises UserError as `write_figure`.
    """
    from matplotlib.figure import Figure

    labels = ["\n".join(textwrap.wrap(printable(m.name), _LABEL)) for m in comparison.methods]
    lines = sum(1.6 + label.count("\n") for label in labels)
    size = (4.0 + 3.2 * len(comparison.names), 1.6 + 0.22 * lines)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(comparison.names), sharey=True, squeeze=False)[0]
    heights, at = [], 0.0
    for label in labels:
        step = 1.6 + label.count("\n")
        heights.append(at + step / 2)
        at += step
    for number, (axes, name) in enumerate(zip(panels, comparison.names, strict=True)):
        for height, method in zip(heights, comparison.methods, strict=True):
            mean, interval = 100 * method.mean(name), method.interval(name)
            low, high = (100 * bound for bound in interval)
            axes.plot([low, high], [height, height], color=f"C{number}", linewidth=2)
            axes.plot(mean, height, "o", color=f"C{number}")
        axes.set_title(name)
        axes.set_xlabel("HM (%)" if name == "HM" else "top-1 (%)")
        axes.grid(axis="x", alpha=0.3)
        axes.set_ylim(at, 0)
    panels[0].set_yticks(heights, labels)
    about = comparison.about
    figure.suptitle(f"{about['dataset']}, {about['protocol']}: mean and 95 % interval", fontsize="medium")
    write_figure(path, figure, dpi=120)


def _tables(comparison: Comparison) -> list[list[list[str]]]:
    """Methods, then pairs, in percent, each with its head."""
    methods = [["method", "seeds", *comparison.names]]
    for method in comparison.methods:
        cells = [percent(method.mean(name), method.interval(name)) for name in comparison.names]
        methods.append([method.name, str(len(method.runs)), *cells])
    pairs = [["method", "against", "set", "difference", "p", "test"]]
    pairs += [_pair_row(pair) for pair in comparison.pairs]
    tables = [methods, pairs] if len(pairs) > 1 else [methods]
    return [[list(map(printable, row)) for row in table] for table in tables]


def _pair_row(pair: Pair) -> list[str]:
    test = f"{pair.test}, {pair.seeds} seeds" if pair.seeds > 1 else pair.test
    return [pair.ours, pair.theirs, pair.on, _points(pair.difference, pair.interval), p_value(pair.p), test]


def _points(value: float, interval: Interval) -> str:
    """A difference in points with its sign."""
    if math.isnan(value):
        return "–"
    bounds = "" if math.isnan(interval.low) else f" [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return f"{100 * value:+.1f}{bounds}"


def _notes(comparison: Comparison) -> list[str]:
    measured = ", ".join(f"{name} {value}" for name, value in comparison.about.items() if value)
    notes = [
        f"measured: {measured}",
        "[ ]: 95 % intervals; of one run over clips (Wilson; HM: Jeffreys posteriors), of several over seeds and clips "
        "(t, both variances); of a difference over seeds (t), on these test clips",
    ]
    if len(comparison.pairs) > 1:
        notes.append(f"p-values are two-sided and not corrected for {len(comparison.pairs)} comparisons")
    return [printable(note) for note in notes]


def _number(value: float) -> str | float:
    return "" if math.isnan(value) else round(value, 6)
