"""Every method exports, in every precision, and answers as torch does."""

import numpy as np
import pytest
import torch

from ga2clip.model.methods import METHODS
from ga2clip_export.export import export_model
from ga2clip_export.runtime import Predictor

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
def test_a_method_leaves_the_lab(make_model, tmp_path, method, changes, precision) -> None:
    model = make_model(method, **changes)
    out = export_model(model, tmp_path / "bundle", precision=precision)
    frames = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
    tolerance = {"fp32": 1e-4, "fp16": 2e-3, "int8": 2e-2}[precision]
    with Predictor(out, provider="cpu", cache=False) as predictor, torch.no_grad():
        video = torch.from_numpy(model.preprocess.normalise(predictor.prepare(frames)))[None]
        for names in (list(model.classes), NEW):
            logits = model.logits(model.encode_video(video), model.encode_classes(names))
            answer = dict(predictor.predict_frames(frames, names).predictions)
            expected = logits.softmax(dim=-1)[0].numpy()
            np.testing.assert_allclose([answer[name] for name in names], expected, atol=tolerance)
