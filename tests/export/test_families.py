"""A small member of every family on the user's whole way: weights, training, test, bundle, answers without torch.

The steps before, features of the file's model and gradients of prompts, are in `tests/model/test_backbone_families.py`.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.model.scoring import class_probabilities
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import Run, load_run
from ga2clip.runtime import Predictor
from ga2clip.training import train
from ga2clip.video import SamplingRule, sample_frames
from ga2clip_export import encoders
from ga2clip_export.export import export_run
from ga2clip_export.graphs import ATTENTION_OPSET, PLAIN_OPSET
from tests.model.small_families import CONVOLUTIONAL, MEMBERS, small_timm, write_member
from tests.small_training import dataset, no_curves, settings

pytestmark = pytest.mark.slow
__all__ = ["dataset", "no_curves", "settings"]

OPSETS = {"ga2": PLAIN_OPSET, "ivlp": ATTENTION_OPSET, "linear-probe": ATTENTION_OPSET}
"""Methods, and the opset that their bundles are made with: every precision works with both."""
NEW = ["juggling two balls", "sleeping"]
TOLERANCES = {"fp32": 1e-4, "int8": 0.1}
"""Of a probability. Features with a cosine of 0.9995 to torch's, as int8 gives here, are 0.03 off; at the random
models' scale of 14 a difference of two logits may be 0.4 off, and a probability 0.1."""


@dataclass(frozen=True)
class Tuned:
    """A member after two updates of a method."""

    member: str
    method: str
    run: Run
    model: VideoCLIP
    bundles: dict[str, Path]

    def probabilities(self, path: Path, names: Sequence[str]) -> np.ndarray:
        """Torch's answer (C,) for a file."""
        model = self.model
        frames = sample_frames(path, SamplingRule(frames=model.settings.data.frames)).frames
        clip = torch.from_numpy(model.preprocess.normalise(model.preprocess.frames(frames)))
        with torch.no_grad():
            logits = model.logits(model.encode_video(clip[None]), model.encode_classes(names))
        return class_probabilities(logits, model.backbone.scoring)[0].numpy()

    def export(self, precision: str) -> Path:
        """The bundle, made when it is first asked for."""
        if precision not in self.bundles:
            with traced_once(self.run.path / "traced"):
                opset = OPSETS[self.method]
                self.bundles[precision] = export_run(self.run.path, precision=precision, opset=opset)
        return self.bundles[precision]


@contextmanager
def traced_once(kept: Path) -> Iterator[None]:
    """All precisions of a run come from the first one's trace, which takes most of an export's time."""
    trace = encoders._trace

    def once(model: VideoCLIP, folder: Path, *rest: Any) -> None:
        if not kept.is_dir():
            trace(model, folder, *rest)
            shutil.copytree(folder, kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    with patch.object(encoders, "_trace", once):
        yield


@pytest.fixture(
    scope="module", params=[(member, method) for member in MEMBERS for method in OPSETS], ids="-".join
)
def tuned(
    request: pytest.FixtureRequest, settings: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tuned]:
    """Prompts are tuned on frames of another size, where the member takes any (`ivlp`)."""
    member, method = request.param
    folder = tmp_path_factory.mktemp(member)
    size = 0 if method != "ivlp" or member == "resnet" else 96 if member in CONVOLUTIONAL else 64
    closed = member in CONVOLUTIONAL and method != "linear-probe"
    with small_timm():
        write_member(member, folder / "weights")
        made = settings(
            method,
            backbone={"pretrained": str(folder / "weights"), "image_size": size},
            training={"epochs": 1, "batch_size": 4},
            **({"method": {"vision_length": 0}} if closed else {}),
        )
        run = load_run(train.train(made, folder / "run", device="cpu", progress=False))
        yield Tuned(member, method, run, run.model(), {})


def test_a_test_counts_what_the_model_answers(tuned: Tuned) -> None:
    assert tuned.run.meta["step"] == 2
    report, task = evaluate_run(tuned.run.path, device="cpu", progress=False), tuned.run.task()
    for measured, part in zip(report.sets, task.evals, strict=True):
        best = [
            part.classes[tuned.probabilities(task.root / c.path, part.classes).argmax()] for c in part.clips
        ]
        right = [name == clip.label for name, clip in zip(best, part.clips, strict=True)]
        assert (measured.scores.n, measured.scores.top1) == (len(right), np.mean(right))
    if tuned.method == "linear-probe":  # on features that are computed once
        assert set(tuned.run.state()) == {"parts.linear_probe.weight"}


def test_its_bundles_answer_without_torch(
    tuned: Tuned, clip_path: Path, predict_without_torch: Callable[..., Any]
) -> None:
    for precision, tolerance in TOLERANCES.items():
        answers = predict_without_torch(tuned.export(precision), clip_path, {}, {"classes": NEW})
        for names, answer in zip((list(tuned.model.classes), NEW), answers, strict=True):
            found = {row["label"]: row["probability"] for row in answer["predictions"]}
            values, expected = [found[name] for name in names], tuned.probabilities(clip_path, names)
            np.testing.assert_allclose(values, expected, atol=tolerance)


def test_its_bundle_in_half_precision_agrees(tuned: Tuned) -> None:
    if tuned.method != "ga2" or tuned.member not in ("siglip", "eva02", "mobileclip-s"):
        pytest.skip("one of a kind is enough")
    assert tuned.export("fp16").is_dir()


def test_openvino_answers_as_onnx_runtime_does(tuned: Tuned, clip_path: Path) -> None:
    """The float32 graph, with the features of bfloat16 where the CPU has it."""
    pytest.importorskip("openvino")
    if tuned.method != "ga2":
        pytest.skip("one method is enough")
    with (
        Predictor(tuned.export("fp32"), provider="openvino", cache=False) as other,
        Predictor(tuned.export("fp32"), provider="cpu", cache=False) as cpu,
    ):
        frames = np.random.default_rng(0).integers(
            0, 256, (5, *[tuned.model.preprocess.size] * 2, 3), np.uint8
        )
        for theirs, ours in (
            (other.encode_frames(frames), cpu.encode_frames(frames)),
            (other.encode_classes(NEW), cpu.encode_classes(NEW)),
        ):
            lengths = np.linalg.norm(theirs, axis=-1) * np.linalg.norm(ours, axis=-1)
            assert ((theirs * ours).sum(axis=-1) / lengths).min() > 0.999
        for names in (None, NEW):
            theirs, ours = (dict(p.predict(clip_path, names, top=9).predictions) for p in (other, cpu))
            assert theirs == pytest.approx(ours, abs=0.02)
            assert max(theirs, key=theirs.__getitem__) == max(ours, key=ours.__getitem__)
