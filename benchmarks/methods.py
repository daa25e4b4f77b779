"""Every method on `stickfigures`, over seeds: base-to-novel, few-shot, and an ablation of GA2-CLIP; and the recommended
method beside others on every kind of data (`methods_jobs.REGIMES`).

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
from typing import Any

from methods_jobs import ABLATION_ROWS, FEW_SHOT, METHOD_ROWS, REGIMES, SHOTS, TIMED, Job, job_settings, jobs
from methods_report import few_shot_markdown, markdown, plot


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
    for row in [*METHOD_ROWS, *ABLATION_ROWS, *TIMED]:
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
