"""A dataset's name goes in; the rows of the paper's tables come out, run here and set beside the published figures.

Figures: GA2-CLIP (arXiv 2511.22125), its repository's tables, read in November 2026; base-to-novel with 16 shots and
few-shot with K = 2, 4, 8, 16. They start from a CLIP tuned on Kinetics-400 and take the best epoch on the test set;
ours reports the last epoch, so a gap of some tenths is expected even with their weights.
"""

import logging
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ga2clip.compute.distributed import choose_device
from ga2clip.compute.precision import autocast_dtype
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.evaluation.report import Report
from ga2clip.run import PROMPTS, SETTINGS, load_run
from ga2clip.settings import Settings
from ga2clip.training.configure import configure
from ga2clip.training.summary import duration
from ga2clip.training.train import resume_settings, train

_log = logging.getLogger(__name__)

# Top-1 in percent, as published. Base-to-novel: base, novel, harmonic mean; few-shot: by number of shots.
_HALVES = {
    "kinetics400": (77.0, 63.3, 69.5),
    "hmdb51": (78.3, 58.9, 67.2),
    "ucf101": (96.8, 75.2, 84.6),
    "ssv2": (18.7, 14.3, 16.2),
}
_FEW_SHOT = {
    "hmdb51": {2: 61.9, 4: 64.3, 8: 68.1, 16: 70.8},
    "ucf101": {2: 90.0, 4: 91.8, 8: 93.8, 16: 95.5},
    "ssv2": {2: 6.8, 4: 9.9, 8: 10.6, 16: 14.7},
}
# (classes, test clips of the first official split), for the estimate of work.
_SIZES = {"kinetics400": (400, 19_881), "hmdb51": (51, 1_530), "ucf101": (101, 3_783), "ssv2": (174, 24_777)}
_GFLOP_PER_FRAME = 35.2  # ViT-B/16 at 224 px, forward; the frozen weights' backward pass costs as much again
_REACHED = 0.5  # share of the matrix rate that training reaches


@dataclass(frozen=True)
class Row:
    """One row of a published table. published: top-1 in percent by name (base, novel, HM; or test)."""

    dataset: str
    protocol: str
    shots: int
    published: Mapping[str, float]

    def settings(self, seed: int, root: str = "", overrides: Sequence[str] = ()) -> Settings:
        """The settings of one of its runs."""
        options = {"data": {"root": root, "shots": self.shots}, "training": {"seed": seed}}
        return configure(
            dataset=self.dataset, method="ga2", protocol=self.protocol, options=options, overrides=overrides
        )

    def folder(self, out: Path, seed: int) -> Path:
        """Where that run lies."""
        return out / f"{self.dataset}-{self.protocol}-{self.shots}shot-{seed}"

    def command(self, out: Path, seed: int, root: str = "", overrides: Sequence[str] = ()) -> str:
        """What a person would type for it."""
        words = [
            "ga2clip",
            "train",
            "--dataset",
            self.dataset,
            "--protocol",
            self.protocol,
            "--method",
            "ga2",
        ]
        words += ["--shots", str(self.shots), "--seed", str(seed), "--out", str(self.folder(out, seed))]
        words += ["--root", root] if root else []
        return shlex.join([*words, *(word for pair in overrides for word in ("--set", pair))])


@dataclass(frozen=True)
class Result:
    """What a row gave here: top-1 in percent by name, one value per seed."""

    row: Row
    ours: Mapping[str, tuple[float, ...]]


def plan(dataset: str) -> list[Row]:
    """The rows that the paper has for a dataset. Errors: UserError for a dataset that is not in its tables."""
    if dataset not in _HALVES:
        raise UserError(
            f"there are no published GA2-CLIP figures for '{dataset}'",
            f"there are for {', '.join(sorted(_HALVES))}",
        )
    base, novel, mean = _HALVES[dataset]
    rows = [Row(dataset, "base-to-novel", 16, {"base": base, "novel": novel, "HM": mean})]
    few = _FEW_SHOT.get(dataset, {})
    return rows + [Row(dataset, "few-shot", shots, {"test": value}) for shots, value in few.items()]


def reproduce(
    rows: Sequence[Row],
    out: Path,
    *,
    root: str = "",
    seeds: Sequence[int] = (1, 2, 3),
    overrides: Sequence[str] = (),
    device: str = "auto",
    progress: bool = True,
) -> list[Result]:
    """Train and test every row with every seed; finished runs are only tested, stopped ones go on.

    Errors: UserError as `train` and `evaluate_run`; what is done stays done.
    """
    results = []
    for row in rows:
        reports = []
        for seed in seeds:
            folder = row.folder(out, seed)
            settings = row.settings(seed, root, overrides)
            _log.info("%s, %d shots, seed %d: %s", row.protocol, row.shots, seed, folder)
            _train(settings, folder, device, progress)
            reports.append(evaluate_run(folder, root=root or None, device=device, progress=progress))
        names = row.published
        results.append(
            Result(row, {name: tuple(100 * _figure(report, name) for report in reports) for name in names})
        )
    return results


def table(results: Sequence[Result]) -> str:
    """Ours (mean ± std over seeds) beside the published figures."""
    lines = [f"{'protocol':15}{'shots':>6}  {'':6}{'published':>10}{'ours':>16}"]
    for result in results:
        for name, published in result.row.published.items():
            values = result.ours[name]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            ours = f"{statistics.mean(values):.1f}{spread}"
            lines.append(
                f"{result.row.protocol:15}{result.row.shots:>6}  {name:6}{published:>10.1f}{ours:>16}"
            )
    return "\n".join(lines)


def describe(
    rows: Sequence[Row],
    out: Path,
    *,
    root: str = "",
    seeds: Sequence[int] = (1, 2, 3),
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> str:
    """What `reproduce` would do: the commands, the data and the time that they need. Nothing is read or written."""
    chosen = choose_device(device)
    rate = _matrix_rate(chosen)
    classes, tests = _SIZES[rows[0].dataset]
    backbone = rows[0].settings(seeds[0], root, overrides).backbone
    lines = [
        f"data: {rows[0].dataset}, prepared in {root or f'data/{rows[0].dataset}'}, {tests:,} test clips",
        f"weights: {backbone.name}, {backbone.pretrained} (theirs but on Kinetics start from a CLIP tuned on "
        "Kinetics-400: --set backbone.pretrained=FILE)",
    ]
    total = 0.0
    for row in rows:
        settings = row.settings(seeds[0], root, overrides)
        trained = classes if row.protocol == "few-shot" else -(-classes // 2)
        frames = settings.data.frames * (2 * trained * row.shots * settings.training.epochs + tests)
        seconds = frames * _GFLOP_PER_FRAME / (_REACHED * rate)
        total += seconds * len(seeds)
        others = f"   and --seed {', '.join(map(str, seeds[1:]))}" if len(seeds) > 1 else ""
        lines += [
            f"\n{row.protocol}, {row.shots} shots: about {duration(seconds)} for each seed",
            f"  {row.command(out, seeds[0], root, overrides)}{others}",
            f"  ga2clip eval {shlex.quote(str(row.folder(out, seeds[0])))}",
        ]
    note = f"at half of the {rate:,.0f} GFLOP/s that {chosen} multiplies at, loading not counted"
    return "\n".join([*lines, f"\nin all about {duration(total)} ({note})"])


def _train(settings: Settings, folder: Path, device: str, progress: bool) -> None:
    """Train, go on, or find that it is done."""
    if not (folder / SETTINGS).is_file():
        train(settings, folder, device=device, progress=progress)
    elif not (folder / PROMPTS).is_file() or load_run(folder).meta.get("step") != load_run(folder).meta.get(
        "steps"
    ):
        train(resume_settings(folder), folder, resume=True, device=device, progress=progress)


def _figure(report: Report, name: str) -> float:
    if name == "HM":
        return report.harmonic_mean or 0.0
    return next(part.scores.top1 for part in report.sets if part.name == name)


def _matrix_rate(device: torch.device) -> float:
    """GFLOP/s of a matrix product of ViT-B/16's size in the precision that training would take; a second or two."""
    dtype = autocast_dtype("auto", device, 768) or torch.float32
    left, right = (torch.ones(size, 768, device=device, dtype=dtype) for size in (1576, 3072))
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product = left @ right.T
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - started)
    return 2 * 1576 * 768 * 3072 / best / 1e9
