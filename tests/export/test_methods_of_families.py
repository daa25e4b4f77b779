"""Methods on backbones of other families: a bundle answers every kind of question as torch does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from ga2clip.evaluation.torch_model import TorchModel
from ga2clip.runtime import Predictor
from ga2clip.runtime.scoring import NONE_LABEL
from ga2clip.runtime.timeline import timeline
from ga2clip.video import write_video
from ga2clip_export.export import export_model
from tests.model.small_families import small_timm, write_member
from tests.model.test_backbone_families import TEXTS as CLASSES
from tests.model.test_backbone_families import make

pytestmark = pytest.mark.slow

BOTH = {"text_length": 3, "vision_length": 3}
TEXT = {"text_length": 3, "vision_length": 0}
LORA = {"lora": {"rank": 2, "weights": ["q", "v", "o", "mlp"]}}
TEXT_LORA = {"lora": {**LORA["lora"], "towers": ["text"]}}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "siglip": ("vilt", BOTH, {}),
    "eva02": ("ivlp", BOTH, LORA),
    "pe-core": ("ivlp", BOTH, {}),
    "clipa": ("linear-probe", {}, {}),
    "mobileclip-b": ("ga2", BOTH, {}),
    "mobileclip-s": ("coop", TEXT, TEXT_LORA),
    "resnet": ("coop", TEXT, {}),
    "convnext": ("linear-probe", {}, {}),
}
QUESTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"classes": ["juggling two balls", *CLASSES[:1]]},
    {"classes": {"juggling": ["someone throws three balls", "balls in the air"], "sleeping": []}},
    {"classes": ["juggling", "sleeping"], "template": "this is {}"},
)


@pytest.fixture(params=CASES)
def both(request: Any, tmp_path: Path) -> Iterator[tuple[Predictor, Predictor]]:
    """The bundle of a model and the model, opened alike."""
    method, lengths, parts = CASES[request.param]
    with small_timm():
        write_member(request.param, tmp_path / "weights")
        model = make(tmp_path / "weights", method, method=lengths, parts=parts).eval()
        with torch.no_grad():
            for parameter in model.trainable_parameters().values():
                parameter.add_(0.1 * torch.randn_like(parameter))
        with patch.dict(export_model.__globals__, {"_CLIPS_SMALL": 4}):
            bundle = export_model(model, tmp_path / "bundle")
        with Predictor(bundle, provider="cpu", cache=False) as exported:
            yield exported, Predictor(TorchModel(model, "memory", device="cpu"))


def test_every_question_is_answered_as_torch_answers_it(
    both: tuple[Predictor, Predictor], clip_path: Path
) -> None:
    for question in QUESTIONS:
        ours, expected = (dict(p.predict(clip_path, top=9, **question).predictions) for p in both)
        assert ours == pytest.approx(expected, abs=2e-4)
    sums = [sum(dict(p.predict(clip_path, top=9).predictions).values()) for p in both]
    if both[0].scoring == "softmax":
        assert sums == pytest.approx([1, 1])
    ours, expected = (timeline(p, clip_path, window=0.6, stride=0.3, fps=10).segments for p in both)
    assert [(s.start, s.end, s.label) for s in ours] == [(s.start, s.end, s.label) for s in expected]


def test_rejection_follows_the_margin_whatever_the_scoring_rule(
    both: tuple[Predictor, Predictor], tmp_path: Path
) -> None:
    """On a still video, of which an answer and a timeline see the same, though they take other frames."""
    clip_path = tmp_path / "still.mp4"
    slope = np.arange(48, dtype=np.uint8)[None, None, :, None] * 5
    write_video(clip_path, np.broadcast_to(slope, (12, 36, 48, 3)).copy(), 10)
    exported, plain = both
    scorer = plain.scorer()
    (encoded,) = plain.encode_files([clip_path])
    unit = encoded.video / np.linalg.norm(encoded.video)
    margin = float((scorer.features @ unit).max() - (plain.model.negatives @ unit).max())
    for threshold in (margin - 0.05, margin + 0.05):
        answers = []
        for predictor in both:
            predictor.model.threshold = threshold
            answers.append(predictor.predict(clip_path, top=9, reject=True).predictions)
            found = timeline(predictor, clip_path, window=9, stride=9, fps=10, reject=True)
            assert {segment.label for segment in found.segments} == {answers[-1][0][0]}
        assert (answers[0][0][0] == NONE_LABEL) == (threshold > margin)
        assert dict(answers[0]) == pytest.approx(dict(answers[1]), abs=2e-4)
    none = (
        exported.model.scale * (float((plain.model.negatives @ unit).max()) + threshold)
        + plain.model.logit_bias
    )
    if plain.scoring == "sigmoid":
        assert dict(answers[1])[NONE_LABEL] == pytest.approx(1 / (1 + np.exp(-none)), abs=1e-5)
