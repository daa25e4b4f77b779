"""The jobs of `benchmarks/methods.py`: rows of its tables, kinds of data, and the settings of each training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
TIMED = [
    _ATTENTION,
    _BEST_IN_ORDER,
    Row("ivlp, neighbouring frames", "ivlp", {"method": {"frame_attention": "neighbours"}}),
    Row("ivlp + LoRA in both towers, rank 4", "ivlp", {"parts": {"lora": {"rank": 4}}}),
    Row("ivlp + FROSTER", "ivlp", {"loss": {"froster": 1.0}}),
    Row("ivlp + outlier words", "ivlp", {"loss": {"outlier_text": 1.0}}),
]
"""What has a cost of its own beside those of the tables."""
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
SAME = {
    row.name: method.name
    for row in ABLATION_ROWS
    for method in METHOD_ROWS
    if (row.method, row.tree) == (method.method, method.tree)
}
"""Rows of the ablation that are a method of the first table: trained once."""


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
