"""Our methods against numbers that the public code of six methods computed.

Every `methods/*.npz` below the folder named by GA2CLIP_GOLDEN (default: the copy beside this file) is one recorded
case. Nothing is skipped: a folder without cases fails.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ga2clip.model.backbone import Backbone
from ga2clip.model.frozen_text import class_text_features
from ga2clip.model.load_backbone import backbone_from_weights
from ga2clip.model.scoring import cosine
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import AverageSettings, Settings
from ga2clip.training.averaging import StateAverage, state_weights
from ga2clip.training.optimiser import build_optimiser, set_lr
from tests.parity.recorded import FOLDER, close

CASES = sorted((FOLDER / "methods").glob("*.npz"))
_OUR_NAMES = (
    (r"prompt_learner\.ctx", "parts.text_prompt.layers.0"),
    (r"image_encoder\.VPT", "parts.vision_prompt.layers.0"),
    (r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"parts.vision_prompt.layers.\1"),
    (r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"parts.text_prompt.layers.\1"),
    (r"prompt_learner\.proj\.(weight|bias)", r"parts.inter_modal.to_vision.maps.0.\1"),
    (r"prompt_learner\.compound_prompts_text\.(\d+)", r"parts.text_prompt.layers.{\1+1}"),
    (
        r"prompt_learner\.compound_prompt_projections\.(\d+)\.(weight|bias)",
        r"parts.inter_modal.to_vision.maps.{\1+1}.\2",
    ),
    (r"logit_scale", "backbone.logit_scale"),
    (r"image_encoder\.(.+)", r"backbone.vision.visual.\1"),
    (r"text_encoder\.(.+)", r"backbone.text.\1"),
)


def our_name(name: str) -> str:
    """A tensor of the public code under the name that it has in our model."""
    for theirs, ours in _OUR_NAMES:
        if found := re.fullmatch(theirs, name):
            return re.sub(r"\{(\d+)\+1\}", lambda number: str(int(number[1]) + 1), found.expand(ours))
    raise AssertionError(f"no name of ours for {name}")


@cache
def clip_weights(path: Path) -> dict[str, Tensor]:
    weights = {name: value.float() for name, value in load_file(path).items()}
    ids, rows = weights.pop("token_embedding.ids"), weights.pop("token_embedding.rows")
    weights["token_embedding.weight"] = torch.zeros(49408, rows.shape[1])
    weights["token_embedding.weight"][ids.long()] = rows
    return weights


def settings_of(meta: dict[str, Any]) -> Settings:
    """The composition that a case was recorded with."""
    tuned = bool(meta["n_ctx_text"])
    teacher = meta.get("frozen_templates") or [meta["frozen_template"]] if "loss" in meta else []
    return Settings().updated(
        {
            "method": {
                "text_length": meta["n_ctx_text"],
                "text_depth": meta["depth_text"],
                "vision_length": meta["n_ctx_vision"],
                "vision_depth": meta["depth_vision"],
                "inter_modal": "text-to-vision" if meta["method"] == "maple" else "none",
                "inter_modal_free": meta["method"] != "maple",
                "tune": "prompts" if tuned else "both",
                "teacher_templates": teacher,
            }
            | ({"class_template": meta["template_behind_prompt"]} if tuned else {})
            | ({"scenario_template": meta["template"]} if "template" in meta else {}),
            "loss": {name: weight for name, weight in meta["loss"].items() if name != "cross_entropy"},
        },
        "golden case",
    )


class Case:
    """One recorded case and our model built from it."""

    def __init__(self, path: Path) -> None:
        fields = np.load(path)
        self.meta: dict[str, Any] = {"frozen_template": "{}", **json.loads(str(fields["meta"]))}
        self.fields = {name: torch.from_numpy(fields[name]) for name in fields.files if name != "meta"}
        self.backbone = self._backbone(path.parent)
        self.model = build_model(self.backbone, settings_of(self.meta), self.meta["classes"])
        self.model.load_trainable_state(self.model.trainable_state() | self.group("prompts/"), "golden case")

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix, under our names."""
        return {our_name(n.removeprefix(prefix)): v for n, v in self.fields.items() if n.startswith(prefix)}

    def _backbone(self, folder: Path) -> Backbone:
        clip = self.meta["clip"]
        return backbone_from_weights(
            clip_weights(folder / clip["file"]),
            source=clip["file"],
            quick_gelu=clip["quick_gelu"],
            head_width=clip["vision"]["width"] // clip["vision"]["heads"],
        )


@pytest.fixture(scope="module", params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_there_are_cases() -> None:
    assert CASES, f"no recorded cases in {FOLDER}/methods"


def test_every_recorded_prompt_has_a_place_of_ours(case: Case) -> None:
    recorded = case.group("prompts/")
    parts = {name for name in case.model.trainable_state() if name.startswith("parts.")}
    assert recorded.keys() == parts


def test_tokens_are_the_recorded_ones(case: Case) -> None:
    ours = case.model.class_tokens(case.meta["classes"])
    behind = 1 + case.meta["n_ctx_text"]
    recorded = case["input/class_tokens"][:, behind:]
    assert torch.equal(ours, recorded[:, : ours.shape[1]])
    assert not recorded[:, ours.shape[1] :].any()


def test_features_and_logits(case: Case) -> None:
    model, video = case.model, case["input/video"]
    with torch.no_grad():
        close(model.encode_frames(video), case["out/frame_features"])
        close(model.encode_video(video), case["out/video_features"])
        classes = model.encode_classes(model.classes)
        close(classes, case["out/class_features"])
        close(model.logits(model.encode_video(video), classes), case["out/logits"])
        for index, prompt in enumerate(model.prompts().vision):
            if f"out/vision_prompts/{index}" in case:
                close(prompt, case[f"out/vision_prompts/{index}"])


def test_frozen_features(case: Case) -> None:
    """The teacher's class features (a mean over templates, or one template) and its video features and logits."""
    if "teacher" not in case.model.needs:
        assert not any("frozen" in name for name in case.fields)
        return
    teacher = case.model.teacher
    assert teacher is not None
    if "out/frozen_class_features" in case:
        close(teacher, case["out/frozen_class_features"])
    close(torch.nn.functional.normalize(teacher, dim=-1), case["out/frozen_class_features_normalised"])
    if "out/frozen_video_features" in case:
        frozen = case.model.encode_frozen_video(case["input/video"], case["input/labels"])
        assert frozen is not None
        close(frozen, case["out/frozen_video_features"])
        close(case.model.scale * cosine(frozen, teacher), case["out/frozen_logits"])


def test_losses_and_gradients(case: Case) -> None:
    model = case.model.train()
    model.zero_grad()
    output = model.losses(case["input/video"], case["input/labels"])
    close(output.total, case["out/loss/total"])
    assert output.terms.keys() == case.meta["loss"].keys()
    for name, value in output.terms.items():
        close(value, case[f"out/loss/{name}"])
    output.total.backward()
    parameters = model.trainable_parameters()
    for name, gradient in case.group("grads/").items():
        close(parameters[name].grad, gradient)
    trained = {our_name(name) for name in case.meta.get("trained", case.meta["prompts"])}
    assert {name for name, p in parameters.items() if p.grad is not None} == trained
    for name, norm in case.meta.get("gradient_norm", {}).items():
        gradient = parameters[our_name(name)].grad
        assert gradient is not None
        close(gradient.norm(), torch.tensor(norm))


def test_the_gradient_of_each_term(case: Case) -> None:
    for term in (name for name in case.meta["loss"] if f"out/loss/{name}" in case):
        recorded = case.group(f"term_grads/{term}/")
        model = case.model.train()
        weights = model.loss_terms
        try:
            model.loss_terms = {t: float(t.name == term) for t in weights}
            model.zero_grad()
            model.losses(case["input/video"], case["input/labels"]).total.backward()
        finally:
            model.loss_terms = weights
        for name, gradient in recorded.items():
            ours = model.trainable_parameters()[name].grad
            if gradient.any():
                close(ours, gradient)
            else:
                assert ours is None or not ours.any()


def test_class_names_with_underscores(case: Case) -> None:
    """Full fine-tuning in the public code leaves underscores as they are."""
    if "input/class_tokens_with_underscore" not in case:
        return
    ids = case["input/class_tokens_with_underscore"][:, 1:]
    with torch.no_grad():
        classes = case.model.encode_tokens(ids)
        close(classes, case["out/underscore/class_features"])
        logits = case.model.logits(case.model.encode_video(case["input/video"]), classes)
        close(logits, case["out/underscore/logits"])
    close(torch.nn.functional.cross_entropy(logits, case["input/labels"]), case["out/underscore/loss/total"])


def test_gaussian_weights(case: Case) -> None:
    for index, schedule in enumerate(case.meta.get("gpa", {}).get("schedules", ())):
        average = AverageSettings(kind="gaussian", mean=schedule["mean"], std=schedule["std"])
        ours = state_weights(average, schedule["epochs"])
        close(torch.tensor(ours), case[f"gpa/schedules/{index}/weights"])


def test_averaged_training(case: Case) -> None:
    """Real epochs of the public training step, and the average of their ends that its trainer leaves."""
    toy = case.meta.get("gpa", {}).get("toy")
    if toy is None:
        return
    model = fresh_model(case, toy)
    training = model.settings.training
    optimiser = build_optimiser(model.parameter_groups(), training)
    average = StateAverage(model.trainable_parameters(), model.settings.average)
    plan = {"per_epoch": toy["steps_per_epoch"], "epochs": training.epochs}
    set_lr(optimiser, 1.0)
    videos = (case["input/video"], case["input/video"].flip(-1))
    losses = []
    for epoch in range(toy["epochs"]):
        for step in range(toy["steps_per_epoch"]):
            optimiser.zero_grad()
            total = model.losses(videos[step % 2], case["input/labels"]).total
            total.backward()
            optimiser.step()
            losses.append(total.detach())
            average.after_update(epoch * toy["steps_per_epoch"] + step + 1, **plan)
        for name, value in case.group(f"gpa/toy/epoch_{epoch + 1}/").items():
            close(model.trainable_parameters()[name], value)
    close(torch.stack(losses), case["gpa/toy/losses"])
    average.apply()
    for name, value in case.group("gpa/toy/aggregated/").items():
        close(model.trainable_parameters()[name], value)


def fresh_model(case: Case, toy: dict[str, Any]) -> VideoCLIP:
    rate = re.fullmatch(r"SGD, lr ([\d.]+), no momentum, no decay", toy["optimizer"])
    assert rate, toy["optimizer"]
    training = {"optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": float(rate[1])}
    settings = settings_of(case.meta).updated(
        {
            "training": training | {"epochs": toy["epochs"]},
            "average": {"kind": "gaussian", "mean": toy["mean"], "std": toy["std"]},
        },
        "golden case",
    )
    model = build_model(case.backbone, settings, case.meta["classes"]).train()
    model.load_trainable_state(model.trainable_state() | case.group("prompts/"), "golden case")
    return model


def test_one_template_is_that_template(case: Case) -> None:
    one = class_text_features(case.backbone, case.meta["classes"], ("a photo of a {}.",))
    twice = class_text_features(case.backbone, case.meta["classes"], ("a photo of a {}.",) * 2)
    close(twice, one)
