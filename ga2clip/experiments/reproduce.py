"""The rows of the GA2-CLIP paper's tables for a dataset, run here and set beside the published figures.

The paper takes the best epoch on the test set; the logs also hold the last epoch, which is what we report and which is
up to 1.8 points lower.
"""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ga2clip.data.manifest import FILE_NAME, Clip
from ga2clip.data.protocols import EvalSet, Task
from ga2clip.errors import UserError
from ga2clip.experiments.jobs import Job, describe_jobs, run_jobs
from ga2clip.experiments.published import FEW_SHOT, FROM_CLIP, HALVES, SIZES
from ga2clip.experiments.tables import FORMS, check_form
from ga2clip.settings import Settings
from ga2clip.text import csv_lines
from ga2clip.training.configure import configure


@dataclass(frozen=True)
class Setup:
    """What the runs of all rows share.

    out: the folder of the runs. root: the dataset's; empty: the usual place. overrides: settings as of `--set`.
    """

    out: Path
    root: str = ""
    seeds: Sequence[int] = (1, 2, 3)
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """One row of a published table.

    published: top-1 in percent by name (base, novel, HM; or test), in the paper and in the log at the last epoch.
    """

    dataset: str
    protocol: str
    shots: int
    published: Mapping[str, tuple[float, float]]

    def settings(self, setup: Setup, seed: int) -> Settings:
        """The settings of one of its runs. Raises UserError for overrides that make it another row's, or none's."""
        options = {"data": {"root": setup.root, "shots": self.shots}, "training": {"seed": seed}}
        settings = configure(
            dataset=self.dataset,
            method="ga2",
            protocol=self.protocol,
            preset="authors",
            options=options,
            overrides=setup.overrides,
        )
        for name, asked, published in (
            ("data.dataset", settings.data.dataset, self.dataset),
            ("data.protocol", settings.data.protocol, self.protocol),
            ("data.shots", settings.data.shots, self.shots),
            ("method.name", settings.method.name, "ga2"),
        ):
            if asked != published:
                raise UserError(
                    f"--set {name}={asked} contradicts the row of the table, which is {published}",
                    "leave it out; for runs of your own take `ga2clip sweep`",
                )
        return settings

    def folder(self, setup: Setup, seed: int) -> Path:
        """Where that run lies."""
        return setup.out / f"{self.dataset}-{self.protocol}-{self.shots}shot-{seed}"

    def jobs(self, setup: Setup) -> list[Job]:
        """Its runs, one per seed."""
        return [Job(self.folder(setup, seed), self.settings(setup, seed)) for seed in setup.seeds]

    def command(self, setup: Setup, seed: int) -> str:
        """What a person would type for that run."""
        options = {
            "--dataset": self.dataset,
            "--protocol": self.protocol,
            "--method": "ga2",
            "--preset": "authors",
            "--shots": str(self.shots),
            "--seed": str(seed),
            "--out": str(self.folder(setup, seed)),
            **({"--root": setup.root} if setup.root else {}),
        }
        words = [word for option in options.items() for word in option]
        return shlex.join(["ga2clip", "train", *words, *(f"--set={pair}" for pair in setup.overrides)])


@dataclass(frozen=True)
class Result:
    """What a row gave here: top-1 in percent by name, one value per seed."""

    row: Row
    settings: Settings
    ours: Mapping[str, tuple[float, ...]]


def plan(dataset: str) -> list[Row]:
    """The rows that the paper has for a dataset. Raises UserError for a dataset that is not in its tables."""
    if dataset not in HALVES:
        raise UserError(
            f"there are no published GA2-CLIP figures for '{dataset}'",
            f"there are for {', '.join(sorted(HALVES))}",
        )
    rows = [Row(dataset, "base-to-novel", 16, HALVES[dataset])]
    few = FEW_SHOT.get(dataset, {})
    return rows + [Row(dataset, "few-shot", shots, {"test": values}) for shots, values in few.items()]


def reproduce(
    rows: Sequence[Row], setup: Setup, *, device: str = "auto", progress: bool = True
) -> list[Result]:
    """Train and test every row with every seed; what is done is not done again, stopped runs go on.

    Raises UserError as `run_jobs`.
    """
    jobs = [row.jobs(setup) for row in rows]
    measured = iter(run_jobs([job for own in jobs for job in own], device=device, progress=progress))
    results = []
    for row, own in zip(rows, jobs, strict=True):
        runs = [next(measured) for _ in own]
        ours = {name: tuple(100 * run.accuracy(name) for run in runs) for name in row.published}
        results.append(Result(row, own[0].settings, ours))
    return results


def table(results: Sequence[Result], form: str = "text") -> str:
    """Our results (mean ± std over seeds) beside the published ones, and the known differences between the runs.

    form: of the formats of `tables`; CSV has a row per value and no differences. Raises UserError for another.
    """
    check_form(form)
    head = ("protocol", "shots", "accuracy", "paper (best epoch)", "log (last epoch)")
    rows = [(result, name, values) for result in results for name, values in result.row.published.items()]
    if form == "csv":
        lines: list[tuple[object, ...]] = [(*head, "ours", "std", "seeds")]
        lines += [
            (*_row(result, name, figures), *_spread(result.ours[name])) for result, name, figures in rows
        ]
        return csv_lines(lines).rstrip("\n")
    cells = [[*head, "ours"]]
    for result, name, (paper, last) in rows:
        mean, spread, seeds = _spread(result.ours[name])
        ours = f"{mean:.1f}" + (f" ± {spread:.1f}" if seeds > 1 else "")
        cells.append([*map(str, _row(result, name, (f"{paper:.1f}", f"{last:.2f}"))), ours])
    return FORMS[form]([cells], _differences(results[0].settings))


def _row(result: Result, name: str, figures: tuple[object, object]) -> tuple[object, ...]:
    return (result.row.protocol, result.row.shots, name, *figures)


def _spread(values: Sequence[float]) -> tuple[float, float | str, int]:
    """Mean, standard deviation over seeds (empty for one), and their number."""
    spread = round(statistics.stdev(values), 4) if len(values) > 1 else ""
    return round(statistics.mean(values), 4), spread, len(values)


def _published(row: Row) -> str:
    return ", ".join(f"{name} {best:.1f} ({last:.2f})" for name, (best, last) in row.published.items())


def _differences(settings: Settings) -> list[str]:
    """What differs from the published runs whatever is set."""
    backbone, method = settings.backbone, settings.method
    start = (
        "as theirs"
        if settings.data.dataset in FROM_CLIP
        else "theirs is a CLIP tuned on Kinetics-400 (--set backbone.pretrained=FILE)"
    )
    return [
        f"weights: {backbone.name}, {backbone.pretrained}; {start}",
        f"hard prompt: {method.hard_prompts}; theirs was learned on half of Kinetics-400 "
        "(--set method.hard_prompts=RUN_OR_FILE)",
        f"prompts: {method.text_length} + {method.vision_length} tokens, random (std 0.02), as theirs",
        f"anchors: the published term with the negative prompt {settings.anchors.negatives[0]!r}, as theirs; it has no "
        "gradient, so no anchor videos are read",
        "epoch: the last one; the paper's is the best on the test set",
    ]


def describe(rows: Sequence[Row], setup: Setup, *, device: str = "auto") -> str:
    """What `reproduce` would do: the commands, the data and the time that they need. Nothing is written.

    Raises UserError as `describe_jobs`.
    """
    classes, tests = SIZES[rows[0].dataset]
    place = Path(setup.root or f"data/{rows[0].dataset}")
    first, *others = setup.seeds
    again = f"   and --seed {', '.join(map(str, others))}" if others else ""
    there = (
        "prepared"
        if (place / FILE_NAME).is_file()
        else "not prepared yet, so the official numbers of clips are taken,"
    )
    lines = [
        f"data: {rows[0].dataset}, {there} in {place}, {tests:,} official test clips of {classes} classes",
        *_differences(rows[0].settings(setup, first)),
    ]
    for row in rows:
        lines += [
            f"\n{row.protocol}, {row.shots} shots",
            f"  published, best epoch (last epoch): {_published(row)}",
            f"  {row.command(setup, first)}{again}",
            f"  ga2clip eval {shlex.quote(str(row.folder(setup, first)))}",
        ]
    jobs = [job for row in rows for job in row.jobs(setup)]
    return "\n".join([*lines, "", describe_jobs(jobs, device=device, unprepared=_official_task)])


def _official_task(settings: Settings) -> Task:
    """A task with the official numbers of clips, none of which is on disk."""
    data = settings.data
    classes, tests = SIZES[data.dataset]
    names = tuple(f"class {number}" for number in range(classes))
    trained = names if data.protocol == "few-shot" else names[: -(-classes // 2)]
    train = tuple(Clip("", name, "train", 1, 0.0) for name in trained for _ in range(data.shots))
    test = tuple(Clip("", names[0], "test", 1, 0.0) for _ in range(tests))
    return Task(data.protocol, "", Path(), trained, train, (), (EvalSet("test", names, test),))
