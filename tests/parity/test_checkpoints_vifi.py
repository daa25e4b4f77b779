"""ViFi-CLIP's checkpoints as its own code writes them: what it recorded of them, or a refusal.

The cases are the ViFi-CLIP entries of `checkpoints/manifest.json` in the folder named by GA2CLIP_GOLDEN, each with the
recorded inputs and outputs. `tests/model/test_vifi_checkpoints.py` has cases that are made on the spot.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.interop import load_published
from ga2clip.labels import fill
from ga2clip.model.video_clip import VideoCLIP

FOLDER = Path(os.environ.get("GA2CLIP_GOLDEN") or Path(__file__).parent / "golden") / "checkpoints"
TOLERANCE = 1e-4


def cases() -> list[dict[str, Any]]:
    manifest = FOLDER / "manifest.json"
    if not manifest.is_file():
        return []
    entries = json.loads(manifest.read_text(encoding="utf-8"))["checkpoints"]
    return [entry for entry in entries if str(entry["kind"]).startswith("vifi")]


CASES = cases()
pytestmark = pytest.mark.skipif(
    not (FOLDER / "manifest.json").is_file(), reason=f"no recorded checkpoints in {FOLDER}"
)


@pytest.fixture(scope="module", params=CASES, ids=[entry["id"] for entry in CASES])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def load(case: dict[str, Any], **changed: Any) -> VideoCLIP:
    given = {"classes": case["classes"], **changed}
    return load_published(FOLDER / case["file"], clip=FOLDER / case["needs"][0], **given)


def close(ours: Tensor, recorded: Tensor) -> None:
    error = (ours.detach() - recorded).norm() / recorded.norm().clamp_min(1e-12)
    assert ours.shape == recorded.shape
    assert error <= TOLERANCE, f"relative error {error:.2e}"


def test_it_computes_what_was_recorded(case: dict[str, Any]) -> None:
    fields = np.load(FOLDER / case["expected"])
    recorded = {name: torch.from_numpy(fields[name]) for name in fields.files if name != "meta"}
    model, video = load(case), recorded["input/video"]
    tokens = model.class_tokens(case["classes"])
    behind = recorded["input/class_tokens"][:, 1 + case["n_ctx_text"] :]
    assert torch.equal(tokens, behind[:, : tokens.shape[1]])
    with torch.no_grad():
        frames = model.encode_frames(video.flatten(0, 1)).unflatten(0, video.shape[:2])
        features, classes = model.encode_video(video), model.encode_classes(case["classes"])
        close(frames, recorded["out/frame_features"])
        close(features, recorded["out/video_features"])
        close(classes, recorded["out/class_features"])
        close(model.logits(features, classes), recorded["out/logits"])
        close(model.backbone.logit_scale, recorded["out/logit_scale"])


def test_its_template_and_sizes_are_the_recorded_ones(case: dict[str, Any]) -> None:
    model, prompt = load(case), case["n_ctx_text"]
    behind = [text.split(" ", prompt)[prompt].lower() for text in case["class_texts"]]
    assert [fill(model.class_template, name).lower() for name in case["classes"]] == behind
    method = model.settings.method
    assert (method.text_length, method.vision_length) == (prompt, case["n_ctx_vision"])
    assert (method.text_depth, method.vision_depth) == (case["depth_text"], case["depth_vision"])


def test_other_names_and_another_order_are_refused(case: dict[str, Any]) -> None:
    names = list(case["classes"])
    for wrong in (
        [*names[1:], names[0]],
        [*names[:-1], "yodelling"],
        names[:-1],
        [f"{names[0]} x", *names[1:]],
    ):
        with pytest.raises(UserError, match="was tuned on"):
            load(case, classes=wrong)


def test_another_template_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="was not tuned with the template"):
        load(case, template="a video of a person doing {}.")
