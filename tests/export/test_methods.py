"""Every method exports, in every precision, and answers without torch as the model does with it."""

import numpy as np
import pytest
import torch

from ga2clip.model.methods import METHODS
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export.export import export_model

pytestmark = pytest.mark.slow

NEW = ["juggling two balls", "sleeping"]
# Of cosines; the logits here are 100 times these. One of probabilities would be strict where two classes are level
# (0.001 of a cosine moves 50 % by 2.5 points) and blind where one leads.
TOLERANCES = {"fp32": 5e-7, "fp16": 5e-5, "int8": 2e-3}
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
    film = sample_frames(clip_path, SamplingRule(frames=model.settings.data.frames)).frames
    with torch.no_grad():
        clip = torch.from_numpy(model.preprocess.normalise(model.preprocess.frames(film)))[None]
        video = model.encode_video(clip)
        for names, answer in zip((list(model.classes), NEW), answers, strict=True):
            logits = model.logits(video, model.encode_classes(names))[0].double()
            probability = {row["label"]: row["probability"] for row in answer["predictions"]}
            assert sum(probability.values()) == pytest.approx(1, abs=1e-6)
            found = np.log([probability[name] for name in names])
            expected = logits.log_softmax(dim=-1).numpy()
            np.testing.assert_allclose(
                margins(found) / 100, margins(expected) / 100, rtol=0, atol=TOLERANCES[precision]
            )


def margins(logits: np.ndarray) -> np.ndarray:
    """How far each class (C,) is above each other: (C, C)."""
    return logits[:, None] - logits
