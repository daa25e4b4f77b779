"""The rows of the GA2-CLIP paper's tables for a dataset, run here and set beside the published figures.

The paper takes the best epoch on the test set; the logs also hold the last epoch, which is what we report and which is
up to 1.8 points lower.
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
from ga2clip.experiments.published import FEW_SHOT, HALVES, SIZES
from ga2clip.experiments.seeds import train_once
from ga2clip.settings import Settings
from ga2clip.training.configure import configure
from ga2clip.training.summary import duration

_log = logging.getLogger(__name__)

_GFLOP_PER_FRAME = 35.2  # ViT-B/16 at 224 px, forward; the frozen weights' backward pass costs as much again
_REACHED = 0.5  # share of the matrix rate that training reaches


@dataclass(frozen=True)
class Row:
    """One row of a published table.

    published: top-1 in percent by name (base, novel, HM; or test), in the paper and in the log at the last epoch.
    """

    dataset: str
    protocol: str
    shots: int
    published: Mapping[str, tuple[float, float]]

    def settings(self, seed: int, root: str = "", overrides: Sequence[str] = ()) -> Settings:
        """The settings of one of its runs."""
        options = {"data": {"root": root, "shots": self.shots}, "training": {"seed": seed}}
        return configure(
            dataset=self.dataset,
            method="ga2",
            protocol=self.protocol,
            preset="authors",
            options=options,
            overrides=overrides,
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
            "--preset",
            "authors",
        ]
        words += ["--shots", str(self.shots), "--seed", str(seed), "--out", str(self.folder(out, seed))]
        words += ["--root", root] if root else []
        return shlex.join([*words, *(word for pair in overrides for word in ("--set", pair))])


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

    Raises UserError as `train` and `evaluate_run`; what is done stays done.
    """
    results = []
    for row in rows:
        reports = []
        for seed in seeds:
            folder = row.folder(out, seed)
            settings = row.settings(seed, root, overrides)
            _log.info("%s, %d shots, seed %d: %s", row.protocol, row.shots, seed, folder)
            train_once(settings, folder, device=device, progress=progress)
            reports.append(evaluate_run(folder, root=root or None, device=device, progress=progress))
        names = row.published
        results.append(
            Result(
                row,
                settings,
                {name: tuple(100 * _figure(report, name) for report in reports) for name in names},
            )
        )
    return results


def table(results: Sequence[Result]) -> str:
    """Our results (mean ± std over seeds) beside the published ones, and the known differences between the runs."""
    lines = [
        f"{'protocol':15}{'shots':>6}  {'':6}{'paper (best epoch)':>20}{'log (last epoch)':>18}{'ours':>16}"
    ]
    for result in results:
        for name, (paper, last) in result.row.published.items():
            values = result.ours[name]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            ours = f"{statistics.mean(values):.1f}{spread}"
            row = f"{result.row.protocol:15}{result.row.shots:>6}  {name:6}"
            lines.append(f"{row}{paper:>20.1f}{last:>18.2f}{ours:>16}")
    return "\n".join([*lines, "", *_differences(results[0].settings)])


def _published(row: Row) -> str:
    return ", ".join(f"{name} {best:.1f} ({last:.2f})" for name, (best, last) in row.published.items())


def _differences(settings: Settings) -> list[str]:
    """What differs from the published runs whatever is set."""
    backbone, method = settings.backbone, settings.method
    start = (
        "as theirs"
        if settings.data.dataset == "kinetics400"
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
    classes, tests = SIZES[rows[0].dataset]
    lines = [
        f"data: {rows[0].dataset}, prepared in {root or f'data/{rows[0].dataset}'}, {tests:,} test clips",
        *_differences(rows[0].settings(seeds[0], root, overrides)),
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
            f"  published, best epoch (last epoch): {_published(row)}",
            f"  {row.command(out, seeds[0], root, overrides)}{others}",
            f"  ga2clip eval {shlex.quote(str(row.folder(out, seeds[0])))}",
        ]
    note = f"at half of the {rate:,.0f} GFLOP/s that {chosen} multiplies at, loading not counted"
    return "\n".join([*lines, f"\nin all about {duration(total)} ({note})"])


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
