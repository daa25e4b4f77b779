"""`ga2clip report`: what a run reached, as one HTML page that needs no network and no other file.

All names are untrusted: the template escapes everything, the page's own policy forbids every request, and only the
script whose hash it names may run.
"""

import base64
import hashlib
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from ga2clip.data.manifest import Clip, read_dataset
from ga2clip.data.reader import ClipReader
from ga2clip.errors import UserError
from ga2clip.evaluation.clips import FILE_NAME as CLIPS
from ga2clip.evaluation.clips import ClipAnswer, Key, csv_file, read_answers
from ga2clip.evaluation.evaluate import evaluate_run, evaluate_untuned
from ga2clip.evaluation.statistics import p_value
from ga2clip.experiments import report_numbers as numbers
from ga2clip.experiments.compare import Measurement, is_measured, measurements, own_measurement
from ga2clip.files import write_text
from ga2clip.run import Run, load_run, read_metrics
from ga2clip.settings import DataSettings, Settings
from ga2clip.text import printable
from ga2clip.training.validation import ACCURACY, LOSS
from ga2clip.video import Preprocess, VideoError

_log = logging.getLogger(__name__)

PAGE = "report.html"
UNTUNED = "zero-shot"
"""The folder beside a measurement for that of the backbone as it is."""
_WRONG, _UNSURE, _PAIRS, _POINTS = 24, 12, 300, 200  # what the page is limited to
_FRAMES, _SIDE, _QUALITY = 4, 96, 60  # of a thumbnail strip: about 8 KB
_LONGEST = 200  # characters of a name
_NOT_CURVES = {"step", "epoch", "grad_norm"}
_JOINER = "\u200d"  # joins emoji; unlike other invisible characters it changes no order of letters


def write_page(
    run_path: str | Path,
    measurement: str | None = None,
    *,
    out: Path | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write the report page of a run; the run and its untuned backbone are measured first where they were not yet.

    Args:
        run_path: the folder that training wrote.
        measurement: the folder below `RUN/eval` to show; None: the run's own dataset, protocol and views.
        out: the file; None: `report.html` in the measurement's folder.
        root: the dataset's folder, if it has moved.
        device: where to measure.
        progress: show progress bars on stderr.

    Returns:
        The file.

    Raises:
        UserError: no run; a measurement that `ga2clip eval` has not made; as `evaluate_run`; a file that can't be
            written.
    """
    run = load_run(run_path)
    if measurement is None and not is_measured(run):
        _log.info("%s was not measured yet: measuring", run.path)
        evaluate_run(run.path, root=root, device=device, progress=progress, write=True)
    name = measurement or own_measurement(run)
    (measured,) = measurements([run], name)
    data = _data(measured, root)
    untuned, why = _untuned(measured, run.path / "eval" / name / UNTUNED, data, device, progress)
    target = out or run.path / "eval" / name / PAGE
    write_text(target, render(measured, untuned, why, _thumbnails(measured, data)))
    return target


def _data(measured: Measurement, root: str | Path | None) -> DataSettings:
    """The data settings of a measurement."""
    own, report = measured.run.settings.data, measured.report
    same = report["dataset"] == own.dataset
    folder = str(root) if root is not None else own.root if same else ""
    clips, crops = _views(report["views"])
    change = {
        "dataset": report["dataset"],
        "class_names": report["class_names"],
        "root": folder,
        "test_clips": clips,
        "test_crops": crops,
    }
    return measured.run.settings.updated({"data": change}, "the measurement").data


def _views(text: str) -> tuple[int, int]:
    clips, _, crops = text.partition("x")
    return int(clips), int(crops)


def _untuned(
    measured: Measurement, folder: Path, data: DataSettings, device: str, progress: bool
) -> tuple[Mapping[Key, ClipAnswer] | None, str]:
    """The untuned backbone's answers on the same clips; or None, and why there are none."""
    run = measured.run
    if run.settings.method.tune == "none":
        return None, "the run is the untuned backbone itself"
    if (
        (folder / CLIPS).is_file()
        and (known := read_answers(folder / CLIPS))
        and _labels(known) == _labels(measured.answers)
    ):
        return known, ""
    _log.info("measuring the untuned backbone of %s on the same clips", run.path)
    try:
        report = evaluate_untuned(
            run,
            protocol=measured.report["protocol"],
            dataset=data.dataset,
            views=(data.test_clips, data.test_crops),
            class_names=data.class_names,
            root=data.root or None,
            device=device,
            progress=progress,
        )
    except UserError as error:
        _log.warning("no comparison with the untuned backbone: %s", error.message)
        return None, error.message
    report.write(folder)
    answers = read_answers(folder / CLIPS)
    if _labels(answers) != _labels(measured.answers):
        raise UserError(
            f"the test clips of {data.dataset} are others than when {run.path} was measured",
            f"ga2clip eval {run.path}",
        )
    return answers, ""


def _labels(answers: Mapping[Key, ClipAnswer]) -> dict[Key, str]:
    """What a measurement took for the truth."""
    return {key: answer.label for key, answer in answers.items()}


@dataclass(frozen=True)
class Thumbnails:
    """Strips of frames by clip, as data URLs. missing: why clips have none, by clip."""

    strips: Mapping[str, str]
    missing: Mapping[str, str]


def _thumbnails(measured: Measurement, data: DataSettings) -> Thumbnails:
    """Strips of the clips that the page shows."""
    shown = [answer.file for part in _parts(measured) for answer in [*part.wrong, *part.unsure]]
    try:
        manifest = read_dataset(data)
    except UserError as error:
        _log.warning("no thumbnails: %s", error.message)
        return Thumbnails({}, dict.fromkeys(shown, error.message))
    clips = {csv_file(clip.id): clip for clip in manifest.clips}
    settings = Settings().updated(
        {"data": data.model_dump() | {"frames": _FRAMES, "test_clips": 1, "test_crops": 1}}, "thumbnails"
    )
    reader = ClipReader(manifest.root, settings, Preprocess(_SIDE))
    strips, missing = {}, {}
    for file in dict.fromkeys(shown):
        try:
            strips[file] = _strip(reader, clips[file])
        except (VideoError, KeyError, OSError) as error:
            missing[file] = "not in the dataset any more" if isinstance(error, KeyError) else str(error)
    return Thumbnails(strips, missing)


def _strip(reader: ClipReader, clip: Clip) -> str:
    """Frames side by side as the data URL of a JPEG."""
    frames = reader.evaluation_clip(clip)
    image = Image.fromarray(np.concatenate(list(frames), axis=1))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class _Part:
    """What a test set's clips (of the first official split that was tested) are shown as."""

    name: str
    answers: Sequence[ClipAnswer]

    @property
    def wrong(self) -> list[ClipAnswer]:
        return numbers.wrong_clips(self.answers, _WRONG)

    @property
    def unsure(self) -> list[ClipAnswer]:
        return numbers.unsure_clips(self.answers, _UNSURE)


def _parts(measured: Measurement) -> list[_Part]:
    split = min(number for _, number, _ in measured.answers)
    found: dict[str, list[ClipAnswer]] = {}
    for (name, number, _), answer in measured.answers.items():
        if number == split:
            found.setdefault(name, []).append(answer)
    return [_Part(name, answers) for name, answers in found.items()]


def render(
    measured: Measurement,
    untuned: Mapping[Key, ClipAnswer] | None = None,
    without: str = "",
    thumbnails: Thumbnails | None = None,
) -> str:
    """The page as HTML; the same for the same input.

    untuned: the answers of the untuned backbone on the same clips. without: why there are none.
    """
    assets = resources.files("ga2clip.assets") / "report"
    script = (assets / "report.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"name": shown, "percent": _percent, "p": p_value}
    template = environment.from_string((assets / "report.html").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    run = measured.run
    return template.render(
        title=f"{run.settings.method.name} on {run.meta['backbone']}",
        run=run,
        report=measured.report,
        splits=len({number for _, number, _ in measured.answers}),
        parts=[_part_tree(part, untuned, measured) for part in _parts(measured)],
        without=without,
        thumbnails=thumbnails or Thumbnails({}, {}),
        curves=_curves(run),
        changed=_changed(run.settings),
        settings=run.settings.to_toml(),
        script=script,
        script_hash=digest,
        style=(assets / "report.css").read_text(encoding="utf-8"),
    )


def _part_tree(
    part: _Part, untuned: Mapping[Key, ClipAnswer] | None, measured: Measurement
) -> dict[str, Any]:
    theirs = None
    if untuned is not None:
        split = min(number for _, number, _ in measured.answers)
        theirs = {
            file: answer
            for (name, number, file), answer in untuned.items()
            if (name, number) == (part.name, split)
        }
    bins, error = numbers.reliability(part.answers)
    pairs = numbers.confusions(part.answers)
    lines = numbers.class_lines(part.answers, theirs)
    clips = {line.name: line.clips for line in lines}
    wrong = [(label, answer, n, n / clips[label]) for (label, answer), n in pairs.items() if label != answer]
    return {
        "name": part.name,
        "numbers": measured.report[part.name],
        "against": None if theirs is None else numbers.against(part.answers, theirs),
        "bins": bins,
        "calibration_error": error,
        "classes": lines,
        "pairs": sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))[:_PAIRS],
        "all_pairs": len(wrong),
        "matrix": _matrix(pairs, clips),
        "wrong": part.wrong,
        "unsure": part.unsure,
        "broken": [answer for answer in part.answers if not answer.answers],
    }


def _matrix(pairs: Mapping[tuple[str, str], int], clips: Mapping[str, int]) -> str:
    """Names, clips of each class and the cells that are not 0, as JSON that may stand in a script element."""
    classes = sorted({*clips, *(answer for _, answer in pairs)})
    place = {name: index for index, name in enumerate(classes)}
    cells = sorted([place[label], place[answer], n] for (label, answer), n in pairs.items())
    tree = {"names": [shown(name) for name in classes], "clips": [clips.get(name, 0) for name in classes]}
    text = json.dumps(tree | {"cells": cells}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _changed(settings: Settings) -> list[tuple[str, str]]:
    """The settings that are not the defaults, by `section.key`."""
    own, default = settings.model_dump(mode="json"), Settings().model_dump(mode="json")
    return [
        (f"{section}.{key}", json.dumps(value, ensure_ascii=False))
        for section, values in own.items()
        for key, value in values.items()
        if value != default[section].get(key)
    ]


@dataclass(frozen=True)
class _Curve:
    """One line of metrics as an SVG path in a box of 300 × 100. low, high: the values at its edges."""

    name: str
    path: str
    low: float
    high: float
    last: float


def _curves(run: Run) -> list[_Curve]:
    lines = read_metrics(run.path)
    if not lines:
        return []
    names = dict.fromkeys(name for line in lines for name in line if name not in _NOT_CURVES)
    terms = [name for name in names if name not in ("lr", "loss", "accuracy", ACCURACY, LOSS)]
    alone = terms if len(terms) == 1 else []  # then it is the loss itself
    # Validation stands in the last line of every epoch alone.
    known = {name: [line[name] for line in lines if name in line] for name in names if name not in alone}
    return [_curve(name, values) for name, values in known.items()]


def _curve(name: str, values: Sequence[float]) -> _Curve:
    """Means over equal stretches of the training, at most `_POINTS`."""
    points = [float(np.mean(part)) for part in np.array_split(values, min(_POINTS, len(values)))]
    low, high = min(0.0, *points), max(points)
    span = (high - low) or 1.0
    steps = [
        f"{300 * index / max(1, len(points) - 1):.1f} {100 - 100 * (value - low) / span:.1f}"
        for index, value in enumerate(points)
    ]
    return _Curve(name, f"M{'L'.join(steps)}", low, high, points[-1])


def shown(name: object) -> str:
    """An untrusted name for the page: no invisible characters, none that turn the line around, and not endless."""
    text = _JOINER.join(printable(part) for part in str(name).split(_JOINER))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _percent(value: float | Iterable[float] | None) -> str:
    """A fraction in percent, or an interval of two."""
    if value is None:
        return "–"
    if isinstance(value, Iterable):
        return " – ".join(_percent(bound) for bound in value)
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
