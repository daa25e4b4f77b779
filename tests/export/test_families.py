"""A small member of every family on the user's whole way: weights, training, test, bundle, answers without torch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.model.scoring import class_probabilities
from ga2clip.run import load_run
from ga2clip.training import train
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export.export import export_run
from tests.model.small_families import CONVOLUTIONAL, MEMBERS, small_timm, write_member
from tests.small_training import dataset, settings

pytestmark = pytest.mark.slow
__all__ = ["dataset", "settings"]

NEW = ["juggling two balls", "sleeping"]


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_timm():
        yield


@pytest.fixture
def run(settings: Callable[..., Any], tmp_path: Path) -> Callable[[str, str], Path]:
    """A function that trains a method for two updates on a member."""

    def make(member: str, method: str) -> Path:
        write_member(member, tmp_path / "weights")
        closed = member in CONVOLUTIONAL and method != "linear-probe"
        made = settings(
            method,
            backbone={"pretrained": str(tmp_path / "weights")},
            training={"epochs": 1, "batch_size": 4},
            **({"method": {"vision_length": 0}} if closed else {}),
        )
        return train.train(made, tmp_path / "run", device="cpu", progress=False)

    return make


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("member", MEMBERS)
def test_a_tuned_member_answers_without_torch(
    member: str,
    precision: str,
    run: Callable[[str, str], Path],
    clip_path: Path,
    predict_without_torch: Callable[..., Any],
) -> None:
    folder = run(member, "ga2")
    report = evaluate_run(folder, device="cpu", progress=False)
    assert 0 <= report.sets[0].scores.top1 <= 1
    model = load_run(folder).model()
    bundle = export_run(folder, precision=precision)
    answers = predict_without_torch(bundle, clip_path, {}, {"classes": NEW})
    frames = sample_frames(clip_path, SamplingRule(frames=model.settings.data.frames)).frames
    clip = model.preprocess.normalise(model.preprocess.frames(frames))
    with torch.no_grad():
        video = model.encode_video(torch.from_numpy(clip)[None])
        for names, answer in zip((list(model.classes), NEW), answers, strict=True):
            logits = model.logits(video, model.encode_classes(names))
            expected = class_probabilities(logits, model.backbone.scoring)[0].numpy()
            found = {row["label"]: row["probability"] for row in answer["predictions"]}
            values = np.array([found[name] for name in names])
            np.testing.assert_allclose(values, expected, atol=1e-4 if precision == "fp32" else 2e-2)


@pytest.mark.parametrize("member", ["siglip", "eva02", "mobileclip-s"])
def test_a_bundle_in_half_precision_agrees(member: str, run: Callable[[str, str], Path]) -> None:
    assert export_run(run(member, "ivlp"), precision="fp16").is_dir()


@pytest.mark.parametrize("member", ["clipa", "siglip", "mobileclip-s"])
def test_a_linear_probe_trains_on_features_that_are_computed_once(
    member: str, run: Callable[[str, str], Path]
) -> None:
    folder = run(member, "linear-probe")
    state = load_run(folder).state()
    assert set(state) == {"parts.linear_probe.weight"}
    assert evaluate_run(folder, device="cpu", progress=False).sets
