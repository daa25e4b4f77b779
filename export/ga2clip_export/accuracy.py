"""Accuracy and calibration of a bundle on the evaluation sets of its run, measured with one view of each clip."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ga2clip.data.clip_frames import read_clip
from ga2clip.data.manifest import Clip
from ga2clip.data.protocols import EvalSet, Task
from ga2clip.evaluation.reliability import Reliability, draw_reliability
from ga2clip.evaluation.statistics import wilson
from ga2clip.runtime.calibration import Coverage
from ga2clip.runtime.calibration_card import ReliabilityCard
from ga2clip.runtime.predictor import Predictor
from ga2clip.video import SamplingRule, VideoError

_log = logging.getLogger(__name__)

_COVERAGE = 0.9
_BATCH = 4


@dataclass(frozen=True)
class Measured:
    """What a bundle reached, by evaluation set.

    accuracy: top-1, a fraction; a broken clip counts as wrong. reliability: for the card; a set without a readable clip
    is left out. curves: name of the set → `before` and `after` the calibration.
    """

    accuracy: dict[str, float]
    reliability: dict[str, ReliabilityCard]
    curves: dict[str, dict[str, Reliability]]

    def draw(self, path: Path) -> None:
        """Draw the reliability plot; nothing where no clip could be read."""
        if self.curves:
            draw_reliability(self.curves, path)


def measure_accuracy(bundle: Path, task: Task) -> Measured:
    """Measure a bundle on the evaluation sets `base` and `novel`, or `test`."""
    measured = Measured({}, {}, {})
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        for part in task.evals:
            _measure(predictor, task.root, part, measured)
    return measured


def _measure(predictor: Predictor, root: Path, part: EvalSet, measured: Measured) -> None:
    choice = Coverage(_COVERAGE) if predictor.model.calibration else None
    scorer = predictor.scorer(part.classes, choice=choice)
    number = {name: index for index, name in enumerate(part.classes)}
    clips, features = _encoded(predictor, root, part.clips)
    labels = np.array([number[str(clip.label)] for clip in clips], np.int64)
    if not clips:
        measured.accuracy[part.name] = 0.0
        return
    after = scorer.probabilities(features)
    curves = {
        "before": Reliability.of(replace(scorer, calibration=None).probabilities(features), labels),
        "after": Reliability.of(after, labels),
    }
    if choice is None:
        del curves["before"]
    found = curves["after"]
    measured.curves[part.name] = curves
    measured.accuracy[part.name] = float(found.correct.sum() / len(part.clips))
    measured.reliability[part.name] = _card(curves, labels, scorer.chosen(features))
    _log.info(
        "%s: %.1f %% of %d clips, ECE %.1f %%",
        *(part.name, 100 * measured.accuracy[part.name], len(part.clips), 100 * found.ece),
    )


def _card(curves: dict[str, Reliability], labels: np.ndarray, chosen: np.ndarray | None) -> ReliabilityCard:
    found = curves["after"]
    before = curves.get("before", found)
    ece, brier = found.intervals
    inside = None if chosen is None else np.take_along_axis(chosen, labels[:, None], axis=1)[:, 0]
    return ReliabilityCard(
        clips=len(labels),
        ece_before=before.ece,
        ece=found.ece,
        ece_interval=ece,
        brier_before=before.brier,
        brier=found.brier,
        brier_interval=brier,
        covered=None if inside is None else float(inside.mean()),
        covered_interval=None if inside is None else wilson(int(inside.sum()), len(inside)),
        set_size=None if chosen is None else float(chosen.sum(axis=1).mean()),
    )


def _encoded(predictor: Predictor, root: Path, clips: Sequence[Clip]) -> tuple[list[Clip], np.ndarray]:
    """The clips that can be read, and their video features (N, D)."""
    kept, features = [], []
    pending: list[np.ndarray] = []
    for clip, frames in _frames(predictor, root, clips):
        kept.append(clip)
        pending.append(frames)
        if len(pending) == _BATCH:
            features.append(predictor.encode_clips(np.stack(pending)))
            pending.clear()
    if pending:
        features.append(predictor.encode_clips(np.stack(pending)))
    return kept, np.concatenate(features) if features else np.empty((0, 0), np.float32)


def _frames(predictor: Predictor, root: Path, clips: Sequence[Clip]) -> Iterator[tuple[Clip, np.ndarray]]:
    """Each readable clip with its frames uint8 (T, S, S, 3)."""
    model = predictor.model
    for clip in clips:
        try:
            frames, _ = read_clip(root, clip, SamplingRule(model.frames), model.preprocess)
        except VideoError as error:
            _log.warning("counts as wrong: %s", error.message)
            continue
        yield clip, predictor.prepare(frames)
