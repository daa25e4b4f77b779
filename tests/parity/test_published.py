"""Our model against numbers that the published implementation computed.

Every `*.npz` in the folder named by GA2CLIP_GOLDEN (default: the copy beside this file) is one recorded case:
a small random CLIP, prompts, a batch, and what the public code made of them, gradients included. The backbone
is built from the recorded sizes. Nothing is skipped: a folder without cases fails.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ga2clip.interop import published_prompts
from ga2clip.model.backbone import Backbone
from ga2clip.model.load_backbone import backbone_from_weights
from ga2clip.model.scoring import cosine
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.run import HARD_PROMPT
from ga2clip.settings import Settings
from tests.parity.recorded import FOLDER, close

CASES = sorted(FOLDER.glob("*.npz"))


class Case:
    """One recorded case and our model built from it."""

    def __init__(self, path: Path) -> None:
        fields = np.load(path)
        self.meta: dict[str, Any] = json.loads(str(fields["meta"]))
        self.fields = {name: torch.from_numpy(fields[name]) for name in fields.files if name != "meta"}
        self.backbone = self._backbone()
        self.model = self._model()

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): v for n, v in self.fields.items() if n.startswith(prefix)}

    def _backbone(self) -> Backbone:
        weights = self.group("weights/")
        ids, rows = weights.pop("token_embedding.ids"), weights.pop("token_embedding.rows")
        vocabulary = 49408
        weights["token_embedding.weight"] = torch.zeros(vocabulary, rows.shape[1])
        weights["token_embedding.weight"][ids] = rows.float()
        return backbone_from_weights(weights, source="golden case", quick_gelu=True, head_width=64)

    def _model(self) -> VideoCLIP:
        prompts = self.group("prompts/")
        hard = prompts.pop("hard", None)
        state = published_prompts(prompts, hard, "golden case")
        meta = self.meta
        settings = Settings().updated(
            {
                "method": {
                    "text_length": meta["n_ctx_text"],
                    "text_depth": meta["depth_text"],
                    "vision_length": meta["n_ctx_vision"],
                    "vision_depth": meta["depth_vision"],
                    "coupling": "mapping" if hard is not None else "none",
                    "coupling_dropout": 0.0,
                },
                "anchors": {
                    "weight": 1.0,
                    "loss": "published",
                    "negatives": meta["negatives"],
                    "negative_template": meta["negative_template"],
                    "per_step": 1,
                },
            },
            "golden case",
        )
        model = build_model(self.backbone, settings, meta["classes"], state.get(HARD_PROMPT))
        model.load_trainable_state(state, "golden case")
        return model


@pytest.fixture(scope="module", params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_there_are_cases() -> None:
    assert CASES, f"no recorded cases in {FOLDER}"


def test_tokens_are_the_recorded_ones(case: Case) -> None:
    ours = case.model.class_tokens(case.meta["classes"])
    recorded = case["input/class_tokens"][:, 1 + case.meta["n_ctx_text"] :]
    assert torch.equal(ours, recorded[:, : ours.shape[1]])
    assert not recorded[:, ours.shape[1] :].any()


def test_mixed_context(case: Case) -> None:
    mixed = case.model.prompts().text[0]
    assert mixed is not None
    close(mixed, case["out/mixed_context"])


def test_features(case: Case) -> None:
    video = case["input/video"]
    with torch.no_grad():
        frames = case.model.encode_frames(video)
        close(frames, case["out/frame_features"])
        close(case.model.encode_classes(case.meta["classes"]), case["out/class_features"])
        close(case.model.negatives, case["out/negative_features"])


def test_cosines(case: Case) -> None:
    model = case.model
    video = case["input/video"]
    with torch.no_grad():
        features, classes = model.encode_video(video), model.encode_classes(model.classes)
        ours = cosine(features, classes)
        shift = cosine(features[-1:], model.negatives)
    close(ours, case["out/eval_cosine"])
    close(ours[:-1] + shift, case["out/train_logits_before_scale"])


def test_loss_and_gradients(case: Case) -> None:
    labels = torch.cat([case["input/labels"], torch.tensor([-1])])
    case.model.zero_grad()
    output = case.model.train().losses(case["input/video"], labels)
    close(output.total, case["out/loss"])
    output.total.backward()
    recorded = published_prompts(case.group("grads/"), torch.zeros(1), "golden case")
    recorded.pop(HARD_PROMPT, None)
    parameters = case.model.trainable_parameters()
    assert recorded.keys() == parameters.keys()
    for name, gradient in recorded.items():
        ours = parameters[name].grad
        assert ours is not None
        close(ours, gradient)


def test_without_prompts(case: Case) -> None:
    plain = Settings().updated(
        {
            "method": {
                "text_length": 0,
                "vision_length": 0,
                "tune": "none",
                "scenario_template": case.meta["vanilla_template"],
            }
        },
        "golden case",
    )
    model = build_model(case.backbone, plain, case.meta["classes"])
    video = case["input/video"]
    with torch.no_grad():
        close(model.encode_classes(model.classes), case["out/vanilla_class_features"])
        frames = model.encode_frames(video)
        close(frames, case["out/vanilla_frame_features"])
