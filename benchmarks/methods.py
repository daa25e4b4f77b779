"""Every method on `stickfigures`, over seeds: base-to-novel, few-shot, and an ablation of GA2-CLIP; and the recommended
method beside others on every kind of data (`REGIMES`).

One line of JSON per trained model goes to --out as soon as it is known; what is there already is not trained again,
so the benchmark can be stopped and continued, and several processes can share the work (--share 0/2, 1/2). --timing
measures a step of every method, in turns in one process. --report prints the Markdown tables and draws the plot:
means with 95 % intervals over seeds and clips, and p-values of a paired t-test over the seeds against --against.

    ga2clip prepare --dataset stickfigures
    python benchmarks/methods.py --out methods.jsonl --tables methods ablation few-shot --seeds 1 2 3
    python benchmarks/methods.py --out methods.jsonl --timing
    python benchmarks/methods.py --out methods.jsonl --report --plot docs/images/methods.png

    ga2clip prepare --dataset stickfigures --clips-per-class 100 --cache   # and stickfigures-narrow, stickfigures-order
    python benchmarks/methods.py --out regimes.jsonl --tables 2-clips 4-clips 16-clips narrow order \\
        --seeds 1 2 3 4 5 6 7 8

    ga2clip prepare --dataset stickfigures-narrow --clips-per-class 40 --cache      # the clips of benchmarks/teach.py
    python benchmarks/methods.py --out tuned.jsonl --tables few-shot-narrow --shots 1 2 4 8 16 --seeds 1 2 3 4 5
    python benchmarks/methods.py --out tuned.jsonl --report --against recommended
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from ga2clip.model.methods import METHODS

Tree = dict[str, dict[str, Any]]

_COUPLED = {"method": {"coupling": "mapping"}}
_ANCHORED = {"anchors": {"weight": 1.0}}
_NO_ANCHORS = {"anchors": {"weight": 0.0}}
SHOTS = (2, 4, 8, 16)
FEW_SHOT = {"few-shot": "stickfigures", "few-shot-narrow": "stickfigures-narrow"}
"""The dataset of each table of all classes by number of clips."""


class Row(NamedTuple):
    """One line of a table: a name, the method it starts from, what is changed, and the file of class descriptions."""

    name: str
    method: str
    tree: Tree
    descriptions: str | None = None


METHOD_ROWS = [
    *(Row(name, name, {}) for name in METHODS),
    Row("ivlp + coupling", "ivlp", _COUPLED),
    Row("ivlp + anchors", "ivlp", _ANCHORED),
    Row("vilt + coupling + anchors", "vilt", {**_COUPLED, **_ANCHORED}),
    Row("fine-tune vision", "zero-shot", {"method": {"tune": "vision"}}),
    Row("fine-tune both", "zero-shot", {"method": {"tune": "both"}}),
    Row("fine-tune both, interpolated 0.5", "zero-shot", {"method": {"tune": "both", "interpolate": 0.5}}),
]
_RESIDUAL = {"method": {"coupling": "residual"}}
ABLATION_ROWS = [
    Row("soft prompts only", "ivlp", {}),
    Row("+ hard prompt concatenated, no mapping", "ga2", {"method": {"coupling": "concat"}, **_NO_ANCHORS}),
    Row("+ mapping layer", "ivlp", _COUPLED),
    Row("+ mapping layer, residual", "ga2", {**_RESIDUAL, **_NO_ANCHORS}),
    Row("soft prompts + anchors, margin", "ivlp", _ANCHORED),
    Row("mapping + negative prompts alone", "ga2", {"anchors": {"per_step": 0}}),
    Row("mapping + anchors, margin (= ga2)", "ga2", {}),
    Row("mapping + anchors, contrast", "ga2", {"anchors": {"loss": "contrast"}}),
    Row("mapping + anchors, preserve", "ga2", {"anchors": {"loss": "preserve"}}),
    Row("mapping + anchors, published", "ga2", {"anchors": {"loss": "published", "negatives": ["else"]}}),
    Row("residual + anchors, margin", "ga2", _RESIDUAL),
    Row("residual + anchors, preserve", "ga2", {**_RESIDUAL, "anchors": {"loss": "preserve"}}),
]
FEW_SHOT_ROWS = [
    *(Row(name, name, {}) for name in METHODS),
    Row("ga2, residual", "ga2", _RESIDUAL),
    Row("ga2, gated", "ga2", {"method": {"coupling": "gated"}}),
]


class Regime(NamedTuple):
    """A kind of data, base-to-novel: a dataset, training clips per class, settings of all rows, and the rows."""

    dataset: str
    shots: int
    tree: Tree
    rows: list[Row]


_PLAIN = [Row("zero-shot", "zero-shot", {}), Row("ivlp", "ivlp", {}), Row("ga2", "ga2", {})]
_NO_TRAINING = Row("zero-shot + teach", "zero-shot", {"method": {"teach": True}})
_BEST = Row("recommended", "recommended", {})
_DESCRIBED = [
    Row("zero-shot, descriptions", "zero-shot", {}, "builtin"),
    Row("recommended, descriptions", "recommended", {}, "builtin"),
]
_TUNED = [*_PLAIN[1:], _BEST]
_ATTENTION = Row("recommended, pooling attention", "recommended", {"method": {"pooling": "attention"}})
_BEST_IN_ORDER = Row(
    "recommended for order", "recommended", {"method": {"pooling": "trend", "vision_length": 0}}
)
# What has a cost of its own beside those of the tables.
_TIMED = [
    _ATTENTION,
    _BEST_IN_ORDER,
    Row("ivlp, neighbouring frames", "ivlp", {"method": {"frame_attention": "neighbours"}}),
    Row("ivlp + LoRA in both towers, rank 4", "ivlp", {"parts": {"lora": {"rank": 4}}}),
    Row("ivlp + FROSTER", "ivlp", {"loss": {"froster": 1.0}}),
    Row("ivlp + outlier words", "ivlp", {"loss": {"outlier_text": 1.0}}),
]
REGIMES = {
    **{f"{k}-clips": Regime("stickfigures", k, {}, [*_PLAIN, _NO_TRAINING, _BEST]) for k in (2, 4, 16)},
    "narrow": Regime("stickfigures-narrow", 16, {}, [*_PLAIN, _NO_TRAINING, _BEST]),
    "described": Regime("stickfigures", 4, {}, _DESCRIBED),
    "order": Regime(
        "stickfigures-order",
        8,
        {"data": {"frames": 8}},
        [*_PLAIN, _NO_TRAINING, _ATTENTION, _BEST_IN_ORDER],
    ),
}
# Rows of the ablation that are a method of the first table: trained once.
SAME = {
    row.name: method.name
    for row in ABLATION_ROWS
    for method in METHOD_ROWS
    if (row.method, row.tree) == (method.method, method.tree)
}


class Job(NamedTuple):
    """One model to train and test."""

    table: str
    row: Row
    seed: int
    shots: int


def untuned(row: Row) -> bool:
    """Whether a row is the same whatever the seed, so that it is measured once."""
    return row.method == "zero-shot" and not row.tree


def jobs(tables: list[str], seeds: list[int], shots: list[int]) -> Iterator[Job]:
    """All jobs of the tables, seed by seed, so that a stopped benchmark has whole seeds."""
    for seed in seeds:
        if "methods" in tables:
            yield from (Job("methods", row, seed, 16) for row in METHOD_ROWS)
        if "ablation" in tables:
            yield from (Job("ablation", row, seed, 16) for row in ABLATION_ROWS if row.name not in SAME)
        if "few-shot" in tables:
            yield from (Job("few-shot", row, seed, k) for k in shots for row in FEW_SHOT_ROWS)
        if "few-shot-narrow" in tables:
            yield from (Job("few-shot-narrow", row, seed, k) for k in shots for row in _TUNED)
        for name, regime in REGIMES.items():
            if name in tables:
                rows = (row for row in regime.rows if not untuned(row) or seed == seeds[0])
                yield from (Job(name, row, seed, regime.shots) for row in rows)


def job_settings(job: Job, data: Path) -> Any:
    """The dataset's recipe for the method, with the regime's and the row's changes. data: folder of the datasets."""
    from ga2clip.training.configure import configure

    protocol = "few-shot" if job.table in FEW_SHOT else "base-to-novel"
    dataset = FEW_SHOT.get(job.table, "stickfigures")
    regime = REGIMES.get(job.table, Regime(dataset, job.shots, {}, []))
    options: Tree = {
        "data": {"root": str(data / regime.dataset), "shots": job.shots},
        "training": {"seed": job.seed},
    }
    settings = configure(
        dataset=regime.dataset,
        method=job.row.method,
        protocol=protocol,
        options=options,
        descriptions=job.row.descriptions,
    )
    return settings.updated(regime.tree, job.table).updated(job.row.tree, job.row.name)


def run(job: Job, data: Path) -> dict[str, Any]:
    """Train and test one model in a temporary folder."""
    from ga2clip.evaluation.evaluate import evaluate_run
    from ga2clip.run import load_run
    from ga2clip.training.train import train

    with tempfile.TemporaryDirectory() as folder:
        path = train(job_settings(job, data), Path(folder) / "run", progress=False)
        measured = evaluate_run(path, progress=False)
        report = measured.to_json()
        parameters = sum(p.numel() for p in load_run(path).model().trainable_parameters().values())
    scores = {name: report[name]["top1"] for name in ("base", "novel", "test") if name in report}
    return {
        "table": job.table,
        "row": job.row.name,
        "seed": job.seed,
        "shots": job.shots,
        **scores,
        "harmonic_mean": report.get("harmonic_mean"),
        "hits": {part.name: "".join(str(int(clip.correct)) for clip in part.clips) for part in measured.sets},
        "measured": measured.setting(),
        "parameters": parameters,
    }


def timings(data: Path, rounds: int = 7) -> Iterator[dict[str, Any]]:
    """Processor seconds, without loading, of an update of every row that trains, and of encoding a clip with what it
    tunes: medians of rounds in which all take turns.
    """
    work: dict[tuple[str, str], Callable[[], Any]] = {}
    # Rows of SAME are timed under both names.
    for row in [*METHOD_ROWS, *ABLATION_ROWS, *_TIMED]:
        settings = job_settings(Job("timing", row, 1, 16), data)
        update, encode = _work(settings)
        work[row.name, "seconds_per_clip"] = encode
        if settings.method.tune != "none":
            work[row.name, "seconds_per_step"] = update
    seconds_of: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, call in work.items():
            started = time.process_time()
            call()
            seconds_of[key].append(time.process_time() - started)
    for name in dict.fromkeys(name for name, _ in work):
        costs = {cost: seconds_of[row, cost] for row, cost in work if row == name}
        medians = {cost: round(statistics.median(seconds[1:]), 5) for cost, seconds in costs.items()}
        yield {"table": "timing", "row": name, **medians}


def _work(settings: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One update of a method on its first batch, on features where its vision tower does not train; and the encoding
    of one clip.
    """
    import torch

    from ga2clip.compute.distributed import Group
    from ga2clip.data.loader import train_batches
    from ga2clip.data.protocols import load_task
    from ga2clip.training.train import make_model
    from ga2clip.training.update import FeatureBatch, Updater

    _, task = load_task(settings)
    model = make_model(settings, task.classes).train()
    batch: Any = next(iter(train_batches(task, settings, model.preprocess, epoch=0)))
    clips = batch.clip_tensor(model.preprocess, model.device)

    @torch.no_grad()
    def encode() -> Any:
        return model.eval().encode_video(clips[:1])

    if model.features_suffice:
        with torch.no_grad():
            features = model.encode_frames(clips)
        batch = FeatureBatch(features, batch.labels, batch.ids)
    updater = Updater(model, Group(model.device))

    def update() -> Any:
        model.train()
        return updater.run(batch, 0, factor=1.0)

    return update, encode


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a result the same job."""
    return line["table"], line["row"], line.get("seed"), line.get("shots")


def read(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of results, a JSON object a line")
    parser.add_argument(
        "--tables", nargs="+", default=["methods"], choices=["methods", "ablation", *FEW_SHOT, *REGIMES]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS), help="few-shot: only these")
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the prepared datasets")
    parser.add_argument("--share", default="0/1", help="this process's share of the jobs, such as 0/2")
    parser.add_argument("--timing", action="store_true", help="measure a step of every method instead")
    parser.add_argument("--report", action="store_true", help="print the tables instead of training")
    parser.add_argument("--against", default="ivlp", help="with --report: the row that p-values compare with")
    parser.add_argument("--plot", type=Path, help="with --report: draw base against novel to this file")
    options = parser.parse_args()
    lines = read(options.out)
    if options.timing:
        kept = [line for line in lines if line["table"] != "timing"]
        options.out.write_text("".join(json.dumps(line) + "\n" for line in [*kept, *timings(options.data)]))
        return
    if options.report:
        for table in dict.fromkeys(line["table"] for line in lines if line["table"] != "timing"):
            report = few_shot_markdown if table in FEW_SHOT else markdown
            print(report(lines, table, options.against), end="\n\n")
        if options.plot:
            plot(lines, options.plot)
        return
    done = {key(line) for line in lines}
    mine, sharing = map(int, options.share.split("/"))
    wanted = [
        job
        for job in jobs(options.tables, options.seeds, options.shots)
        if not options.rows or job.row.name in options.rows
    ]
    for job in wanted[mine::sharing]:
        if (job.table, job.row.name, job.seed, job.shots) in done:
            continue
        result = run(job, options.data)
        with options.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
