"""Every method exports, in every precision, and answers without torch as the model does with it."""

import pytest
import torch

from ga2clip.model.methods import METHODS
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export.export import export_model

pytestmark = pytest.mark.slow

NEW = ["juggling two balls", "sleeping"]
VARIANTS = [
    *[(name, {}, "fp32") for name in METHODS],
    ("ga2", {"coupling": "concat"}, "fp32"),
    ("vilt", {"inter_modal": "both"}, "fp32"),
    ("ivlp", {"tune": "both"}, "fp32"),
    *[(name, {}, precision) for name in METHODS for precision in ("fp16", "int8")],
]


@pytest.mark.parametrize(("method", "changes", "precision"), VARIANTS)
def test_a_method_leaves_the_lab(
    make_model, tmp_path, clip_path, predict_without_torch, method, changes, precision
) -> None:
    model = make_model(method, **changes)
    out = export_model(model, tmp_path / "bundle", precision=precision)
    answers = predict_without_torch(out, clip_path, {}, {"classes": NEW})
    tolerance = {"fp32": 1e-4, "fp16": 2e-3, "int8": 2e-2}[precision]
    film = sample_frames(clip_path, SamplingRule(frames=model.settings.data.frames)).frames
    with torch.no_grad():
        clip = torch.from_numpy(model.preprocess.normalise(model.preprocess.frames(film)))[None]
        video = model.encode_video(clip)
        for names, answer in zip((list(model.classes), NEW), answers, strict=True):
            expected = model.logits(video, model.encode_classes(names)).softmax(dim=-1)[0].tolist()
            found = {row["label"]: row["probability"] for row in answer["predictions"]}
            assert found == pytest.approx(dict(zip(names, expected, strict=True)), abs=tolerance)
