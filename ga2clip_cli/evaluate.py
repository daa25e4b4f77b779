"""`ga2clip eval`: runs go in, accuracies come out as a table or JSON; the details lie in each run's folder."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import AsJson, Root

EXAMPLES = (
    "ga2clip eval runs/stickfigures-ga2-1",
    "ga2clip eval runs/zero-shot runs/ga2",
    "ga2clip eval runs/ga2 --protocol all --json",
    "ga2clip eval runs/k400 --protocol zero-shot --dataset ucf101 --root data/ucf101",
)


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that training wrote.")],
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="base-to-novel, few-shot, zero-shot, full or all [default: the run's]."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another dataset than the run's.")
    ] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Measure runs: top-1, base, novel, harmonic mean.

    Test clips are those of the run's protocol, and the last epoch is what is measured. Beside the table,
    RUN/eval/DATASET-PROTOCOL gets report.json, per_class.csv and confusion.png.
    """
    from ga2clip.evaluation.evaluate import evaluate_all, evaluate_run

    found = []
    bar = console.has_terminal()
    for run in runs:
        if protocol == "all":
            reports = evaluate_all(run, dataset=dataset, root=root, progress=bar)
        else:
            reports = [evaluate_run(run, protocol=protocol, dataset=dataset, root=root, progress=bar)]
        for report in reports:
            if console.is_first_process():
                report.write(run / "eval" / f"{report.about['dataset']}-{report.protocol}")
            if not as_json:
                console.emit(
                    f"{run}: {report.about['method']} on {report.about['backbone']}, {report.protocol}"
                )
                console.emit(report.table() + "\n")
        found += reports
    if as_json:
        console.emit_json(found[0].to_json() if len(found) == 1 else [report.to_json() for report in found])
