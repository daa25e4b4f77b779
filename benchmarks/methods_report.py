"""The report of `benchmarks/methods.py`: Markdown tables and a plot of its results, a dict each."""

import statistics
from pathlib import Path
from typing import Any

from methods_jobs import ABLATION_ROWS, SAME

from ga2clip.evaluation.statistics import (
    Interval,
    clip_variance,
    harmonic_mean_interval,
    harmonic_mean_variance,
    mean_interval,
    p_value,
    paired_t,
    percent,
    wilson,
)


def interval(lines: list[dict[str, Any]], field: str) -> Interval:
    """Of the mean over the seeds: over seeds and clips, over seeds alone where lines hold no hits, over clips alone of
    a single run.
    """
    variance = 0.0
    if all("hits" in line for line in lines):
        parts = ("base", "novel") if field == "harmonic_mean" else (field,)
        if len(lines) == 1:
            counts = [(hits.count("1"), len(hits)) for hits in (lines[0]["hits"][part] for part in parts)]
            return harmonic_mean_interval(counts) if len(parts) == 2 else wilson(*counts[0])
        tables = [[[int(hit) for hit in line["hits"][part]] for line in lines] for part in parts]
        variances = [clip_variance(table) for table in tables]
        means = [statistics.mean(line[part] for line in lines) for part in parts]
        variance = harmonic_mean_variance(means, variances) if len(parts) == 2 else variances[0]
    return mean_interval([line[field] for line in lines], variance)


def shown(lines: list[dict[str, Any]], field: str) -> str:
    """Mean and interval in percent."""
    return percent(statistics.mean(line[field] for line in lines), interval(lines, field))


def against(lines: list[dict[str, Any]], others: list[dict[str, Any]], field: str) -> str:
    """p-value of a paired t-test over the seeds that both have; nothing for a row against itself."""
    ours, theirs = ({line["seed"]: line[field] for line in part} for part in (lines, others))
    seeds = sorted(ours.keys() & theirs.keys())
    if lines[0]["row"] == others[0]["row"]:
        return ""
    return p_value(paired_t([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]))


def caption(lines: list[dict[str, Any]]) -> str:
    """How the accuracies of a table were measured."""
    settings = sorted({line["measured"] for line in lines if "measured" in line})
    bounds = "[ ]: 95 % intervals over seeds and clips; p: paired t-test over seeds, HM or top-1"
    return "\n".join([bounds, *(f"measured with {setting}" for setting in settings)])


def markdown(lines: list[dict[str, Any]], table: str, reference: str) -> str:
    """A base-to-novel table."""
    rows = [line for line in lines if line["table"] == table]
    if table == "ablation":
        again = {method: name for name, method in SAME.items()}
        rows += [
            line | {"row": again[line["row"]]}
            for line in lines
            if line["table"] == "methods" and line["row"] in again
        ]
        order = [row.name for row in ABLATION_ROWS]
        rows.sort(key=lambda line: order.index(line["row"]))
        reference = next((name for name, method in SAME.items() if method == reference), reference)
    others = [line for line in rows if line["row"] == reference]
    costs = {line["row"]: line for line in lines if line["table"] == "timing"}
    head = (
        "",
        "base",
        "novel",
        "HM",
        f"p against {reference}",
        "trained parameters",
        "s/step",
        "ms/clip",
        "seeds",
    )
    text = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(line["row"] for line in rows):
        own = [line for line in rows if line["row"] == name]
        cells = [shown(own, field) for field in ("base", "novel", "harmonic_mean")]
        cells.append(against(own, others, "harmonic_mean") if others else "–")
        cost = costs.get(name, {})
        cells += [
            f"{own[0]['parameters']:,}",
            f"{cost['seconds_per_step']:.2f}" if "seconds_per_step" in cost else "–",
            f"{1000 * cost['seconds_per_clip']:.1f}" if "seconds_per_clip" in cost else "–",
        ]
        text.append(f"| {name} | {' | '.join(cells)} | {len(own)} |")
    return "\n".join([*text, "", caption(rows)])


def few_shot_markdown(lines: list[dict[str, Any]], table: str, reference: str) -> str:
    """Methods by shots, each with its p-value against the reference."""
    rows = [line for line in lines if line["table"] == table]
    seeds = len({line["seed"] for line in rows})
    columns = sorted({line["shots"] for line in rows})
    text = [f"| | {' | '.join(f'K = {k}' for k in columns)} |", "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(line["row"] for line in rows):
        cells = []
        for shots in columns:
            own, others = (
                [line for line in rows if (line["row"], line["shots"]) == (row, shots)]
                for row in (name, reference)
            )
            notes = [f"n = {len(own)}"] if len(own) < seeds else []
            p = against(own, others, "test") if own and others else ""
            notes += [f"p {p}" if p.startswith("<") else f"p = {p}"] if p else []
            cells.append(shown(own, "test") + (f" ({', '.join(notes)})" if notes else "") if own else "–")
        text.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*text, "", f"p against {reference}; {caption(rows)}"])


def plot(lines: list[dict[str, Any]], out: Path) -> None:
    """Base against novel accuracy, a point per method with its spread over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6), layout="constrained")
    rows = [line for line in lines if line["table"] == "methods"]
    for name in dict.fromkeys(line["row"] for line in rows):
        own = [line for line in rows if line["row"] == name]
        points = {field: [100 * line[field] for line in own] for field in ("base", "novel")}
        centre = {field: statistics.mean(values) for field, values in points.items()}
        spread = {f: statistics.stdev(v) if len(v) > 1 else 0 for f, v in points.items()}
        axes.errorbar(
            centre["base"],
            centre["novel"],
            xerr=spread["base"],
            yerr=spread["novel"],
            fmt="o",
            capsize=2,
            label=name,
        )
        axes.annotate(
            name, (centre["base"], centre["novel"]), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    axes.set_xlabel("base top-1 (%)")
    axes.set_ylabel("novel top-1 (%)")
    axes.set_title("stickfigures, base-to-novel, 16 shots: mean and standard deviation over seeds")
    axes.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
