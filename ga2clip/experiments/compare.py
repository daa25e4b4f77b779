"""Runs as methods: those that differ in their seed alone are one method, with an interval; methods are tested in pairs.

Works on what `ga2clip eval` saved. How intervals and p-values come about is in `evaluation.statistics`.
"""

import itertools
import json
import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ga2clip.data.lineage import fingerprint
from ga2clip.errors import UserError
from ga2clip.evaluation.clips import FILE_NAME as CLIPS
from ga2clip.evaluation.clips import ClipAnswer, Key, read_answers
from ga2clip.evaluation.metrics import harmonic_mean
from ga2clip.evaluation.places import measurement_folder
from ga2clip.evaluation.report import REPORT
from ga2clip.evaluation.statistics import (
    UNKNOWN,
    Interval,
    clip_variance,
    difference_interval,
    harmonic_mean_interval,
    harmonic_mean_variance,
    mcnemar,
    mean_interval,
    paired_t,
    wilson,
)
from ga2clip.files import file_sha256
from ga2clip.run import MAY_CHANGE, PROMPTS, Run, load_run

_log = logging.getLogger(__name__)

HM = "HM"
HALVES = ("base", "novel")
_ALIKE = ("dataset", "protocol", "views")
"""What must be the same in all measurements that are compared."""


@dataclass(frozen=True)
class Measurement:
    """One run as `eval` measured it.

    report: the content of `report.json`. answers: what it answered on each clip.
    """

    run: Run
    report: Mapping[str, Any]
    answers: Mapping[Key, ClipAnswer]

    @cached_property
    def hits(self) -> dict[Key, bool]:
        """Whether each clip was answered rightly."""
        return {key: answer.correct for key, answer in self.answers.items()}

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.run.settings.training.seed

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's settings by `section.key`, without the seed and what leaves the updates as they are."""
        tree = self.run.settings.model_dump(mode="json")
        return {
            f"{section}.{key}": value
            for section, values in tree.items()
            for key, value in values.items()
            if key not in MAY_CHANGE.get(section, set()) and (section, key) != ("training", "seed")
        }

    def of(self, name: str) -> list[bool]:
        """The hits of a test set, clip by clip, in an order that all measurements share."""
        return [self.hits[key] for key in sorted(self.hits) if key[0] == name]

    def accuracy(self, name: str) -> float:
        """Top-1 of a test set (the mean over its official splits), or the harmonic mean, as a fraction."""
        if name == HM:
            return harmonic_mean([self.accuracy(half) for half in HALVES])
        splits: dict[int, list[bool]] = {}
        for (part, split, _), hit in self.hits.items():
            if part == name:
                splits.setdefault(split, []).append(hit)
        return float(np.mean([np.mean(hits) for hits in splits.values()]))


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed alone, in the order of their seeds."""

    name: str
    runs: tuple[Measurement, ...]

    @property
    def untrained(self) -> bool:
        """Whether nothing was tuned, so that every seed gives the same model."""
        return self.runs[0].run.settings.method.tune == "none"

    def values(self, name: str) -> dict[int, float]:
        """The accuracy of each seed."""
        return {run.seed: run.accuracy(name) for run in self.runs}

    def mean(self, name: str) -> float:
        """The mean accuracy over the seeds."""
        return float(np.mean(list(self.values(name).values())))

    def interval(self, name: str) -> Interval:
        """Of the mean, over clips, and over seeds where there are several."""
        if len(self.runs) == 1:
            counts = {part: (sum(hits), len(hits)) for part, hits in self._hits(name)}
            return harmonic_mean_interval(list(counts.values())) if name == HM else wilson(*counts[name])
        return mean_interval(list(self.values(name).values()), self._clip_variance(name))

    def _hits(self, name: str) -> list[tuple[str, list[bool]]]:
        return [(part, self.runs[0].of(part)) for part in (HALVES if name == HM else (name,))]

    def _clip_variance(self, name: str) -> float:
        if name == HM:
            variances = [self._clip_variance(half) for half in HALVES]
            return harmonic_mean_variance([self.mean(half) for half in HALVES], variances)
        return clip_variance([run.of(name) for run in self.runs])


@dataclass(frozen=True)
class Pair:
    """Two methods on one test set. difference: ours − theirs, a fraction; p: of no difference; seeds: in common."""

    ours: str
    theirs: str
    on: str
    difference: float
    interval: Interval
    p: float
    test: str
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """Methods on the same clips. about: how they were measured; names: of the test sets, and HM where there is one."""

    about: Mapping[str, str]
    names: tuple[str, ...]
    methods: tuple[Method, ...]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two methods on every test set."""
        return tuple(
            _pair(ours, theirs, name)
            for theirs, ours in itertools.combinations(self.methods, 2)
            for name in self.names
        )


def compare(runs: Sequence[str | Path], measurement: str | None = None) -> Comparison:
    """Compare runs by what `ga2clip eval` saved of them.

    Args:
        runs: folders that training wrote. Those that differ in their seed alone are one method.
        measurement: the folder below `RUN/eval` to take; None: each run's own dataset, protocol and views.

    A warning is logged for runs whose dataset is another one by now than when they were measured.

    Raises:
        UserError: a folder that is no run; a run that was not measured, or was trained on since (names the command to
            type); runs that were tested on different clips or labels; the same training twice.
    """
    found = measurements([load_run(run) for run in runs], measurement)
    if measurement is None:
        _warn_of_other_data(found)
    first = found[0]
    for other in found[1:]:
        _refuse_unlike(first, other)
    sets = list(dict.fromkeys(part for part, _, _ in first.hits))
    names = (*sets, HM) if set(sets) == set(HALVES) else tuple(sets)
    return Comparison(_about(found), names, _methods(found))


def measurements(runs: Sequence[Run], measurement: str | None = None) -> list[Measurement]:
    """What `eval` saved of each run. measurement: as `compare`. Raises UserError for a run to be measured first."""
    folders = [run.path / "eval" / (measurement or own_measurement(run)) for run in runs]
    missing = [run for run, folder in zip(runs, folders, strict=True) if not (folder / CLIPS).is_file()]
    if missing:
        raise _not_measured(missing, measurement)
    found = []
    for run, folder in zip(runs, folders, strict=True):
        report = _read_report(folder / REPORT)
        if report.get("run_sha256") != file_sha256(run.path / PROMPTS):
            raise UserError(
                f"{run.path} was trained on since it was measured",
                shlex.join(["ga2clip", "eval", str(run.path)]),
            )
        found.append(Measurement(run, report, read_answers(folder / CLIPS)))
    return found


def own_measurement(run: Run) -> str:
    """The folder below `RUN/eval` for the run's own dataset, protocol and views."""
    return measurement_folder(run, run.settings).format(protocol=run.settings.data.protocol)


def is_measured(run: Run) -> bool:
    """Whether `eval` has measured the run as it is now on its own data as it is now."""
    folder = run.path / "eval" / own_measurement(run)
    if not (folder / CLIPS).is_file():
        return False
    report = _read_report(folder / REPORT)
    if report.get("run_sha256") != file_sha256(run.path / PROMPTS):
        return False
    return _of_data_as_it_is(run, report)


def _of_data_as_it_is(run: Run, report: Mapping[str, Any], known: dict[str, str] | None = None) -> bool:
    """Whether a measurement of the run's own data is of the dataset as it is now; also where nobody can tell.

    known: fingerprints of datasets that were read already, which this adds to.
    """
    measured = report.get("data_sha256")  # reports of earlier versions don't have it
    if measured is None:
        return True
    known = {} if known is None else known
    place = json.dumps([run.settings.data.model_dump(mode="json"), run.classes])
    if place not in known:
        try:
            known[place] = fingerprint(run.manifest(run.settings.data))
        except UserError:  # the dataset is gone: nothing newer can be measured
            known[place] = ""
    return known[place] in ("", measured)


def _warn_of_other_data(found: Sequence[Measurement]) -> None:
    """Log which measurements are of a dataset that has changed since. They stay comparable with one another."""
    known: dict[str, str] = {}
    old = [m.run.path for m in found if not _of_data_as_it_is(m.run, m.report, known)]
    if old:
        _log.warning(
            "the dataset has changed since %s measured; to measure as it is now: ga2clip eval %s",
            f"{old[0]} was" if len(old) == 1 else f"{len(old)} of {len(found)} runs were",
            shlex.join(map(str, old)),
        )


def _not_measured(runs: Sequence[Run], measurement: str | None) -> UserError:
    """The error for runs without that measurement, with what there is."""
    command = shlex.join(["ga2clip", "eval", *(str(run.path) for run in runs)])
    there = sorted({file.parent.name for file in runs[0].path.glob(f"eval/*/{CLIPS}")})
    known = f"; or --eval with one of {', '.join(there)}" if there else ""
    if measurement is not None:
        command += " with the options of that measurement"
    names = ", ".join(str(run.path) for run in runs)
    return UserError(
        f"no clip by clip results of {names} in eval/{measurement or own_measurement(runs[0])}",
        command + known,
    )


def _read_report(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", "run `ga2clip eval` again") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}", "run `ga2clip eval` again") from None
    if not isinstance(tree, dict):
        raise UserError(f"{file} is damaged: it holds no object", "run `ga2clip eval` again")
    return tree


def _refuse_unlike(first: Measurement, other: Measurement) -> None:
    """Raises UserError for measurements that can't be compared clip by clip."""
    both = f"{first.run.path} and {other.run.path}"
    for name in _ALIKE:
        here, there = first.report.get(name), other.report.get(name)
        if here != there:
            raise UserError(
                f"{both} were measured differently: {name} is {here} and {there}", "measure both in one way"
            )
    again = shlex.join(["ga2clip", "eval", str(first.run.path), str(other.run.path)])
    if first.hits.keys() != other.hits.keys():
        clip = min(first.hits.keys() ^ other.hits.keys())
        raise UserError(
            f"{both} were tested on different clips, such as {clip[2]} ({clip[0]})",
            again,
        )
    changed = _relabelled(first, other)
    if changed is not None:
        raise UserError(
            f"{both} were tested with different labels: {changed[2]} ({changed[0]}) is "
            f"'{first.answers[changed].label}' and '{other.answers[changed].label}'",
            again,
        )


def _relabelled(first: Measurement, other: Measurement) -> Key | None:
    """A clip whose class is another one in the other measurement; classes may have other names there."""
    names: dict[str, str] = {}
    back: dict[str, str] = {}
    for key in sorted(first.answers):
        here, there = first.answers[key].label, other.answers[key].label
        if names.setdefault(here, there) != there or back.setdefault(there, here) != here:
            return key
    return None


def _about(found: Sequence[Measurement]) -> dict[str, str]:
    """How it was measured; what differs between the runs with all its values."""
    names = ("dataset", "protocol", "views", "frames", "class_names", "template")
    return {
        name.replace("_", " "): " | ".join(
            dict.fromkeys(str(run.report[name]) for run in found if name in run.report)
        )
        for name in names
    }


def _methods(found: Sequence[Measurement]) -> tuple[Method, ...]:
    groups: dict[str, list[Measurement]] = {}
    for run in found:
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    for runs in groups.values():
        seeds: dict[int, Measurement] = {}
        for run in runs:
            if (same := seeds.setdefault(run.seed, run)) is not run:
                raise UserError(
                    f"{same.run.path} and {run.run.path} are the same training with the same seed {run.seed}",
                    "name one of them",
                )
    members = [tuple(sorted(runs, key=lambda run: run.seed)) for runs in groups.values()]
    return tuple(
        Method(name, runs) for name, runs in zip(_names([runs[0] for runs in members]), members, strict=True)
    )


def _names(methods: Sequence[Measurement]) -> list[str]:
    """The name of each method, with the settings in which it differs from others of that name."""
    names = []
    for method in methods:
        name = method.settings["method.name"]
        alike = [other.settings for other in methods if other.settings["method.name"] == name]
        keys = dict.fromkeys(key for other in alike for key in other)
        differing = [key for key in keys if len({repr(other.get(key)) for other in alike}) > 1]
        shown = ", ".join(f"{key}={_plain(method.settings.get(key))}" for key in differing)
        names.append(f"{name} ({shown})" if shown else name)
    return names


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _pair(ours: Method, theirs: Method, name: str) -> Pair:
    first, second = _same_seeds(ours, theirs, name)
    difference = float(np.mean(first) - np.mean(second)) if first else math.nan
    interval, p, test = UNKNOWN, math.nan, "no common seed"
    if len(first) > 1:
        interval, p, test = difference_interval(first, second), paired_t(first, second), "paired t"
    elif first and name != HM:
        seed = _common(ours, theirs)[0]
        p, test = mcnemar(_run(ours, seed).of(name), _run(theirs, seed).of(name)), "exact McNemar"
    elif first:
        test = "needs two seeds"
    return Pair(ours.name, theirs.name, name, difference, interval, p, test, len(first))


def _same_seeds(ours: Method, theirs: Method, name: str) -> tuple[list[float], list[float]]:
    """The accuracies of the seeds that both have."""
    seeds = _common(ours, theirs)
    return (
        [_run(ours, seed).accuracy(name) for seed in seeds],
        [_run(theirs, seed).accuracy(name) for seed in seeds],
    )


def _common(ours: Method, theirs: Method) -> list[int]:
    """The seeds that both have; an untrained model is the same with every seed."""
    first, second = ({run.seed for run in method.runs} for method in (ours, theirs))
    if ours.untrained != theirs.untrained:
        return sorted(second if ours.untrained else first)
    return sorted(first | second if ours.untrained else first & second)


def _run(method: Method, seed: int) -> Measurement:
    return next((run for run in method.runs if run.seed == seed), method.runs[0])
