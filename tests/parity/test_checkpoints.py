"""CLIPs in other people's files compute what was recorded of them, or are refused with what to add.

The cases are the plain CLIPs of `checkpoints/manifest.json` in the folder named by GA2CLIP_GOLDEN, and one of every
layout that is written on the spot and computed by open_clip. Nothing is skipped: a folder without cases fails.
ViFi-CLIP's checkpoints are in `test_checkpoints_vifi.py`.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.load_backbone import load_backbone
from ga2clip.settings import BackboneSettings
from tests.layouts import NAMES, write_case
from tests.parity.recorded import FOLDER, close

MANIFEST = FOLDER / "checkpoints" / "manifest.json"
RECORDED = json.loads(MANIFEST.read_text(encoding="utf-8"))["checkpoints"] if MANIFEST.is_file() else []
PLAIN = {entry["id"]: entry for entry in RECORDED if not entry["kind"].startswith("vifi")}


class Case:
    """One file, what is known of it, and what it computes."""

    def __init__(self, folder: Path, entry: dict[str, Any], own: Path) -> None:
        self.entry, self.file, self.own = entry, folder / entry["file"], own
        fields = np.load(folder / entry["expected"])
        self.fields = {name: torch.from_numpy(fields[name]) for name in fields.files if name != "meta"}
        self.needs = [str(folder / name) for name in entry["needs"]]

    def settings(self, **words: Any) -> BackboneSettings:
        return BackboneSettings(pretrained=str(self.file), **words)

    def load(self) -> tuple[Backbone, dict[str, str]]:
        """The backbone, and the words that were missing: each is added only after a refusal that asks for it."""
        words: dict[str, str] = {}
        while True:
            try:
                return load_backbone(self.settings(**words)), words
            except UserError as error:
                hint = str(error.hint)
                if "backbone.text_from" in hint and "text_from" not in words:
                    assert self.entry["kind"] == "clip-vision-only"
                    words["text_from"] = self.needs[0]
                elif "--backbone" in hint and "name" not in words:
                    words["name"] = self.config_file()
                else:
                    raise

    def config_file(self) -> str:
        """What the manifest says of the model, as open_clip's model config."""
        vision = dict(self.entry["vision"])
        vision["head_width"] = vision["width"] // vision.pop("heads")
        path = self.own / "model.json"
        text = {"context_length": 77, "vocab_size": 49408, **self.entry["text"]}
        towers = {"vision_cfg": vision, "text_cfg": text, "quick_gelu": self.entry["quick_gelu"]}
        path.write_text(json.dumps({"embed_dim": self.entry["embed_dim"], **towers}))
        return str(path)


@pytest.fixture(scope="module", params=[*NAMES, *PLAIN])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    own = tmp_path_factory.mktemp("case")
    if request.param in PLAIN:
        return Case(MANIFEST.parent, PLAIN[request.param], own)
    return Case(own, write_case(own, request.param), own)


def test_the_named_folder_has_cases() -> None:
    assert PLAIN or not os.environ.get("GA2CLIP_GOLDEN"), f"no recorded checkpoints in {MANIFEST}"


def test_it_computes_what_was_recorded(case: Case) -> None:
    backbone, words = case.load()
    if "missing" in case.entry:
        assert sorted(words) == case.entry["missing"]
    tokens = case.fields["input/tokens"]
    with torch.no_grad():
        close(backbone.vision(case.fields["input/pixels"]), case.fields["out/image_features"])
        close(backbone.text(tokens[:, 1:]), case.fields["out/text_features"])
    close(backbone.logit_scale, case.fields["out/logit_scale"])


def test_the_other_activation_is_refused(case: Case) -> None:
    _, words = case.load()
    with pytest.raises(UserError, match=r"says QuickGELU; .* says GELU|says GELU; .* says QuickGELU"):
        load_backbone(case.settings(**words, quick_gelu=not case.entry["quick_gelu"]))
