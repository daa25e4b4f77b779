"""Every method on `stickfigures`, over seeds: base-to-novel, few-shot, and an ablation of GA2-CLIP.

One line of JSON per trained model goes to --out as soon as it is known; what is there already is not trained again,
so the benchmark can be stopped and continued. --report prints the Markdown tables and draws the plot from that file.

    ga2clip prepare --dataset stickfigures
    python benchmarks/methods.py --out methods.jsonl --tables methods ablation few-shot --seeds 1 2 3
    python benchmarks/methods.py --out methods.jsonl --report --plot docs/images/methods.png
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Tree = dict[str, dict[str, Any]]

_PLAIN = {"coupling": "none"}
_NO_ANCHORS = {"anchors": {"weight": 0.0}}
SHOTS = (2, 4, 8, 16)
FEW_SHOT = ("zero-shot", "linear-probe", "coop", "ivlp", "vilt", "ga2")


class Row(NamedTuple):
    """One line of a table: a name, the method it starts from, and what is changed."""

    name: str
    method: str
    tree: Tree


METHOD_ROWS = [
    *(
        Row(name, name, {})
        for name in (
            "zero-shot",
            "linear-probe",
            "coop",
            "vpt",
            "ivlp",
            "maple",
            "kgcoop",
            "promptsrc",
            "vilt",
            "ga2",
        )
    ),
    Row("ivlp + coupling", "ivlp", {"method": {"coupling": "mapping"}}),
    Row("ivlp + anchors", "ivlp", {"anchors": {"weight": 1.0}}),
    Row("vilt + coupling + anchors", "vilt", {"method": {"coupling": "mapping"}, "anchors": {"weight": 1.0}}),
    Row("fine-tune vision", "zero-shot", {"method": {"tune": "vision"}}),
    Row("fine-tune both", "zero-shot", {"method": {"tune": "both"}}),
    Row("fine-tune both, interpolated 0.5", "zero-shot", {"method": {"tune": "both", "interpolate": 0.5}}),
]
ABLATION_ROWS = [
    Row("soft prompts only", "ga2", {"method": _PLAIN, **_NO_ANCHORS}),
    Row("+ hard prompt concatenated, no mapping", "ga2", {"method": {"coupling": "concat"}, **_NO_ANCHORS}),
    Row("+ mapping layer", "ga2", _NO_ANCHORS),
    Row("+ mapping layer, residual", "ga2", {"method": {"coupling": "residual"}, **_NO_ANCHORS}),
    Row("mapping + negative prompts", "ga2", {"anchors": {"per_step": 0}}),
    Row("mapping + anchor videos, margin (= ga2)", "ga2", {}),
    Row("mapping + anchor videos, contrast", "ga2", {"anchors": {"loss": "contrast"}}),
    Row(
        "mapping + anchor videos, published", "ga2", {"anchors": {"loss": "published", "negatives": ["else"]}}
    ),
    Row("soft prompts + anchor videos, margin", "ga2", {"method": _PLAIN}),
    Row("residual + anchor videos, margin", "ga2", {"method": {"coupling": "residual"}}),
]


class Job(NamedTuple):
    """One model to train and test."""

    table: str
    row: Row
    seed: int
    shots: int


def jobs(tables: list[str], seeds: list[int]) -> Iterator[Job]:
    """All jobs of the tables, seed by seed, so that a stopped benchmark has whole seeds."""
    for seed in seeds:
        if "methods" in tables:
            yield from (Job("methods", row, seed, 16) for row in METHOD_ROWS)
        if "ablation" in tables:
            yield from (Job("ablation", row, seed, 16) for row in ABLATION_ROWS)
        if "few-shot" in tables:
            yield from (Job("few-shot", Row(m, m, {}), seed, shots) for m in FEW_SHOT for shots in SHOTS)


def run(job: Job, root: str) -> dict[str, Any]:
    """Train and test one model in a temporary folder."""
    from ga2clip.evaluation.evaluate import evaluate_run
    from ga2clip.run import load_run, read_metrics
    from ga2clip.training.configure import configure
    from ga2clip.training.train import train

    protocol = "few-shot" if job.table == "few-shot" else "base-to-novel"
    options: Tree = {"data": {"root": root, "shots": job.shots}, "training": {"seed": job.seed}}
    settings = configure(dataset="stickfigures", method=job.row.method, protocol=protocol, options=options)
    settings = settings.updated(job.row.tree, job.row.name)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        path = train(settings, Path(folder) / "run", progress=False)
        seconds = time.monotonic() - started
        report = evaluate_run(path, progress=False).to_json()
        steps = max((line["step"] for line in read_metrics(path)), default=0)
        parameters = sum(p.numel() for p in load_run(path).model().trainable_parameters().values())
    scores = {name: report[name]["top1"] for name in ("base", "novel", "test") if name in report}
    return {
        "table": job.table,
        "row": job.row.name,
        "seed": job.seed,
        "shots": job.shots,
        **scores,
        "harmonic_mean": report.get("harmonic_mean"),
        "parameters": parameters,
        "seconds": round(seconds, 1),
        "seconds_per_step": round(seconds / steps, 4) if steps else None,
    }


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a result the same job."""
    return line["table"], line["row"], line["seed"], line["shots"]


def read(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def percent(values: list[float]) -> str:
    """Mean ± sample standard deviation over the seeds, in percent."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def markdown(lines: list[dict[str, Any]], table: str) -> str:
    """A base-to-novel table."""
    rows = [line for line in lines if line["table"] == table]
    text = ["| | base | novel | HM | trained parameters | s/step | seeds |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(line["row"] for line in rows):
        own = [line for line in rows if line["row"] == name]
        cells = [percent([line[field] for line in own]) for field in ("base", "novel", "harmonic_mean")]
        steps = [line["seconds_per_step"] for line in own if line["seconds_per_step"]]
        speed = f"{statistics.median(steps):.2f}" if steps else "–"
        text.append(f"| {name} | {' | '.join(cells)} | {own[0]['parameters']:,} | {speed} | {len(own)} |")
    return "\n".join(text)


def few_shot_markdown(lines: list[dict[str, Any]]) -> str:
    """Methods by shots."""
    rows = [line for line in lines if line["table"] == "few-shot"]
    text = [f"| | {' | '.join(f'K = {k}' for k in SHOTS)} |", "|---|" + "---|" * len(SHOTS)]
    for name in dict.fromkeys(line["row"] for line in rows):
        cells = [[line["test"] for line in rows if (line["row"], line["shots"]) == (name, k)] for k in SHOTS]
        text.append(f"| {name} | {' | '.join(percent(c) if c else '–' for c in cells)} |")
    return "\n".join(text)


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of results, a JSON object a line")
    parser.add_argument(
        "--tables", nargs="+", default=["methods"], choices=["methods", "ablation", "few-shot"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument("--root", default="data/stickfigures")
    parser.add_argument("--report", action="store_true", help="print the tables instead of training")
    parser.add_argument("--plot", type=Path, help="with --report: draw base against novel to this file")
    options = parser.parse_args()
    lines = read(options.out)
    if options.report:
        known = {line["table"] for line in lines}
        for table in sorted(known):
            print(few_shot_markdown(lines) if table == "few-shot" else markdown(lines, table), end="\n\n")
        if options.plot:
            plot(lines, options.plot)
        return
    done = {key(line) for line in lines}
    for job in jobs(options.tables, options.seeds):
        wanted = not options.rows or job.row.name in options.rows
        if not wanted or (job.table, job.row.name, job.seed, job.shots) in done:
            continue
        result = run(job, options.root)
        with options.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
