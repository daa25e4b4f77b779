"""Accuracy of a bundle on the evaluation sets of its run, measured on the video files with one view each."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from ga2clip.data.clip_frames import read_clip
from ga2clip.data.manifest import Clip
from ga2clip.data.protocols import Task
from ga2clip.predictions import Prediction
from ga2clip.runtime.predictor import Predictor
from ga2clip.video import SamplingRule, VideoError

_log = logging.getLogger(__name__)


def measure_accuracy(bundle: Path, task: Task) -> dict[str, float]:
    """Top-1 accuracy by evaluation set (`base`, `novel` or `test`), as fractions; a broken clip counts as
    wrong.
    """
    accuracies = {}
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        for part in task.evals:
            files = [clip for clip in part.clips if clip.span is None]
            spans = [clip for clip in part.clips if clip.span is not None]
            answers = [
                *_answers_of_files(predictor, task.root, files, part.classes),
                *_answers_of_spans(predictor, task.root, spans, part.classes),
            ]
            right = [answer == clip.label for answer, clip in zip(answers, [*files, *spans], strict=True)]
            accuracies[part.name] = sum(right) / len(right)
            _log.info("%s: %.1f %% of %d clips", part.name, 100 * accuracies[part.name], len(right))
    return accuracies


def _answers_of_files(
    predictor: Predictor, root: Path, clips: Sequence[Clip], classes: Sequence[str]
) -> Iterator[str | None]:
    """The best class of each file; None for one that can't be read."""
    for answer in predictor.predict_many([root / clip.path for clip in clips], classes, top=1):
        yield answer.predictions[0][0] if isinstance(answer, Prediction) else None


def _answers_of_spans(
    predictor: Predictor, root: Path, clips: Sequence[Clip], classes: Sequence[str]
) -> Iterator[str | None]:
    """The same for spans of files."""
    model, scorer = predictor.model, predictor.scorer(classes)
    for clip in clips:
        try:
            frames, _ = read_clip(root, clip, SamplingRule(model.frames), model.preprocess)
        except VideoError:
            yield None
            continue
        features = predictor.encode_clips(predictor.prepare(frames)[None])
        yield scorer.labels[int(scorer.probabilities(features)[0].argmax())]
