"""A sweep: methods × datasets × settings × seeds from one file, each a run, and a table of them all."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ga2clip.errors import UserError
from ga2clip.experiments.compare import Measurement, compare, own_measurement
from ga2clip.experiments.compare_tables import render
from ga2clip.experiments.jobs import Job
from ga2clip.experiments.seeds import parse_seeds
from ga2clip.settings_reading import explain, merge, read_toml
from ga2clip.training.configure import configure

_MANY = 10_000


class SweepFile(BaseModel):
    """What a sweep's TOML file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: tuple[str, ...] = Field(min_length=1)
    """Names of methods."""
    datasets: tuple[str, ...] | dict[str, str] = Field(min_length=1)
    """Names of prepared datasets in `data/NAME`, or a table of name and folder."""
    seeds: str | tuple[int, ...] = "1"
    """`"1..5"`, `"1,2,7"`, or a list of numbers."""
    recipe: str | None = None
    """Settings instead of the datasets' own recipes, as `train --recipe`."""
    preset: str | None = None
    """As `train --preset`."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of all runs: `training.epochs = 5`."""
    vary: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Lists of values, each of which is tried with each of the others: `training.lr = [0.01, 0.02]`."""


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, in the order in which they are done: by seed, so that an early table has all methods."""

    out: Path
    jobs: tuple[Job, ...]


def read_sweep(file: Path, out: Path | None = None) -> Sweep:
    """The runs that a sweep's file means.

    Args:
        file: TOML, see `SweepFile`.
        out: the folder of the runs; None: `runs/NAME` by the name of the file.

    Raises:
        UserError: a missing or ill-formed file, an unknown key, method, dataset or setting, a setting that has a key
            of its own here, or settings that would share a folder.
    """
    try:
        asked = SweepFile.model_validate(read_toml(file))
    except ValidationError as error:
        raise explain(error, str(file), SweepFile) from None
    seeds = parse_seeds(asked.seeds if isinstance(asked.seeds, str) else ",".join(map(str, asked.seeds)))
    _refuse_twice(asked, str(file))
    where = asked.datasets if isinstance(asked.datasets, dict) else dict.fromkeys(asked.datasets, "")
    folder = out or Path("runs") / file.stem
    grid = list(_grid(asked.vary, str(file)))
    combinations = len(seeds) * len(where) * len(asked.methods) * len(grid)
    if combinations > _MANY:
        raise UserError(f"{file} asks for {combinations:,} runs, more than {_MANY:,}", "leave some out")
    jobs = []
    for seed, (dataset, root), method, varied in itertools.product(seeds, where.items(), asked.methods, grid):
        fixed = {"training": {"seed": seed}} | ({"data": {"root": root}} if root else {})
        tree = merge(merge(asked.settings, _nested(varied)), fixed)
        settings = configure(
            dataset=dataset, method=method, recipe=asked.recipe, preset=asked.preset, options=tree
        )
        name = "-".join([dataset, method, *(_label(key, value) for key, value in varied.items())])
        jobs.append(Job(folder / name / f"seed-{seed}", settings))
    if len({job.folder for job in jobs}) < len(jobs):
        raise UserError(f"{file}: two of its runs would have the same folder", "name every value once")
    return Sweep(folder, tuple(jobs))


def _refuse_twice(asked: SweepFile, source: str) -> None:
    """Raises UserError for settings that the file has keys of its own for: one of the two would count for nothing."""
    keys = {"training.seed": "seeds", "method.name": "methods", "data.dataset": "datasets"}
    keys |= {"data.root": "datasets"} if isinstance(asked.datasets, dict) else {}
    for table, tree in (("settings", asked.settings), ("vary", asked.vary)):
        for setting, _ in _leaves(tree):
            if setting in keys:
                own = keys[setting]
                raise UserError(
                    f"{source}: {table}.{setting} is what '{own}' says", f"give it by '{own}' alone"
                )


def table(measured: Sequence[Measurement], form: str) -> str:
    """A comparison of the runs of each dataset and protocol, in one of the formats of `compare`."""
    groups: dict[str, list[Path]] = {}
    for run in measured:
        groups.setdefault(own_measurement(run.run), []).append(run.run.path)
    return "\n\n".join(render(compare(runs), form) for runs in groups.values())


def _grid(tree: Mapping[str, Any], source: str) -> Iterator[dict[str, Any]]:
    """Every choice of one value per key, as `section.key` → value."""
    leaves = dict(_leaves(tree))
    for key, values in leaves.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{source}: vary.{key} is no list of values", f"such as {key} = [0.01, 0.02]")
    for values in itertools.product(*leaves.values()):
        yield dict(zip(leaves, values, strict=True))


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        inner: Any = {name: value}
        for section in reversed(sections):
            inner = {section: inner}
        tree = merge(tree, inner)
    return tree


def _label(key: str, value: Any) -> str:
    """`lr=0.01`: a setting as a part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    safe = re.sub(r"[^\w.+-]+", "_", text)[:60]
    return f"{key.rpartition('.')[2]}={safe}"
