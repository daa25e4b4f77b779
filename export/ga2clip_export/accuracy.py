"""Accuracy of a bundle on the evaluation sets of its run, measured on the video files with one view each."""

import logging
from pathlib import Path

from ga2clip.data.protocols import Task
from ga2clip.predictions import Prediction
from ga2clip.runtime.predictor import Predictor

_log = logging.getLogger(__name__)


def measure_accuracy(bundle: Path, task: Task) -> dict[str, float]:
    """Top-1 accuracy by evaluation set (`base`, `novel` or `test`), as fractions; a broken clip counts as
    wrong.
    """
    accuracies = {}
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        for part in task.evals:
            paths = [task.root / clip.path for clip in part.clips]
            answers = predictor.predict_many(paths, part.classes, top=1)
            right = [
                isinstance(answer, Prediction) and answer.predictions[0][0] == clip.label
                for answer, clip in zip(answers, part.clips, strict=True)
            ]
            accuracies[part.name] = sum(right) / len(right)
            _log.info("%s: %.1f %% of %d clips", part.name, 100 * accuracies[part.name], len(right))
    return accuracies
