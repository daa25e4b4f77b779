"""ViFi-CLIP's checkpoints as its own code writes them compute what was recorded of them, or are refused.

The cases are the ViFi-CLIP entries of `checkpoints/manifest.json` in the folder named by GA2CLIP_GOLDEN, and two that
are written on the spot and computed by open_clip. A named folder without cases fails.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.interop import import_run, load_published
from ga2clip.labels import fill
from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import BACKBONE, load_run
from tests.parity.recorded import FOLDER, close
from tests.vifi_files import write_case

MANIFEST = FOLDER / "checkpoints" / "manifest.json"
LISTED = json.loads(MANIFEST.read_text(encoding="utf-8"))["checkpoints"] if MANIFEST.is_file() else []
RECORDED = {entry["id"]: entry for entry in LISTED if entry["kind"].startswith("vifi")}


class Case:
    """A checkpoint, what is known of it, and what it computes."""

    def __init__(self, folder: Path, entry: dict[str, Any]) -> None:
        self.entry, self.classes = entry, list(entry["classes"])
        self.file, self.clip = folder / entry["file"], folder / entry["needs"][0]
        fields = np.load(folder / entry["expected"])
        self.fields = {name: torch.from_numpy(fields[name]) for name in fields.files if name != "meta"}

    def load(self, **changed: Any) -> VideoCLIP:
        return load_published(self.file, clip=self.clip, **{"classes": self.classes, **changed})

    def check(self, model: VideoCLIP) -> None:
        video = self.fields["input/video"]
        with torch.no_grad():
            frames = model.encode_frames(video)
            features, classes = model.encode_video(video), model.encode_classes(self.classes)
            close(frames, self.fields["out/frame_features"])
            close(features, self.fields["out/video_features"])
            close(classes, self.fields["out/class_features"])
            close(model.logits(features, classes), self.fields["out/logits"])
            close(model.backbone.logit_scale, self.fields["out/logit_scale"])


@pytest.fixture(scope="module", params=["vifi-full", "vifi-vl", *RECORDED])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param in RECORDED:
        return Case(MANIFEST.parent, RECORDED[request.param])
    folder = tmp_path_factory.mktemp("case")
    return Case(folder, write_case(folder, request.param))


def test_the_named_folder_has_cases() -> None:
    assert RECORDED or not os.environ.get("GA2CLIP_GOLDEN"), (
        f"no recorded ViFi-CLIP checkpoints in {MANIFEST}"
    )


def test_it_computes_what_was_recorded(case: Case) -> None:
    model = case.load()
    tokens = model.class_tokens(case.classes)
    behind = case.fields["input/class_tokens"][:, 1 + case.entry["n_ctx_text"] :]
    assert torch.equal(tokens, behind[:, : tokens.shape[1]])
    assert not behind[:, tokens.shape[1] :].any()
    case.check(model)


def test_so_does_the_run_that_is_made_of_it(case: Case, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(case.classes), encoding="utf-8")
    run = import_run(case.file, case.clip, None, tmp_path / "names.txt", tmp_path / "run")
    case.check(load_run(run).model())
    assert (run / BACKBONE).exists() == case.entry["tuned_backbone"]


def test_its_template_and_sizes_are_the_recorded_ones(case: Case) -> None:
    model, entry = case.load(), case.entry
    prompt = entry["n_ctx_text"]
    behind = [text.split(" ", prompt)[prompt].lower() for text in entry["class_texts"]]
    assert [fill(model.class_template, name).lower() for name in case.classes] == behind
    method = model.settings.method
    assert (method.text_length, method.vision_length) == (prompt, entry["n_ctx_vision"])
    assert (method.text_depth, method.vision_depth) == (entry["depth_text"], entry["depth_vision"])


def test_other_names_and_another_order_are_refused(case: Case) -> None:
    first, *others = case.classes
    for wrong in ([*others, first], [first, *others[:-1], "yodelling"], others, [f"{first} x", *others]):
        with pytest.raises(UserError, match="was tuned on"):
            case.load(classes=wrong)


def test_another_template_is_refused(case: Case) -> None:
    with pytest.raises(UserError, match="was not tuned with the template"):
        case.load(template="a film of {}.")
