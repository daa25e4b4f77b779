"""A fully fine-tuned ViFi-CLIP checkpoint from its file to answers, held against open_clip's own two towers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ga2clip.data.manifest import Clip, Manifest
from ga2clip.video import Preprocess, SamplingRule, sample_frames, write_video
from tests.vifi_files import write_vifi

RAW = ["BalanceBeam", "YoYo", "Apply_Lipstick"]
READABLE = ("gymnastics on a balance beam", "playing with a yo-yo", "applying lipstick")
# Of the CLIP repository's `_transform`.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Published:
    """The tuned CLIP, and what it says by open_clip's code alone."""

    def __init__(self, folder: Path) -> None:
        self.clip = open_clip.CLIP(
            embed_dim=32,
            vision_cfg={"image_size": 16, "patch_size": 8, "width": 64, "layers": 1},
            text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
            quick_gelu=True,
        ).eval()
        save_file(self.clip.state_dict(), folder / "clip.safetensors")
        with torch.no_grad():
            for parameter in [*self.clip.visual.parameters(), *self.clip.transformer.parameters()]:
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
        write_vifi(folder / "best.pth", self.clip, RAW, underscores=True)
        (folder / "raw.txt").write_text("\n".join(RAW))
        (folder / "readable.txt").write_text("\n".join(READABLE))

    @torch.no_grad()
    def classes(self) -> Tensor:
        texts = self.clip.encode_text(open_clip.tokenize([f"a photo of a {name}." for name in RAW]))
        return torch.nn.functional.normalize(texts, dim=-1)

    @torch.no_grad()
    def probabilities(self, file: Path, frames: int) -> list[float]:
        pixels = Preprocess(size=16, mean=MEAN, std=STD)
        shown = sample_frames(file, SamplingRule(frames=frames), size=16).frames
        batch = torch.from_numpy(pixels.normalise(pixels.frames(shown)))
        video = torch.nn.functional.normalize(self.clip.encode_image(batch).mean(dim=0), dim=-1)
        row: list[float] = (self.clip.logit_scale.exp() * video @ self.classes().T).softmax(dim=-1).tolist()
        return row


@pytest.fixture
def published(empty: Path) -> Published:
    return Published(empty)


@pytest.fixture
def ucf101(empty: Path) -> list[Path]:
    """A prepared dataset of six test clips; the clips."""
    root, clips = empty / "data" / "ucf101", []
    rng = np.random.default_rng(0)
    for index in range(6):
        write_video(root / f"{index}.mp4", rng.integers(0, 255, (4, 24, 24, 3), dtype=np.uint8), 4)
        clips.append(Clip(f"{index}.mp4", READABLE[index % 3], "test", 4, 1.0))
    Manifest("ucf101", root, READABLE, (), tuple(clips), {}, ("BalanceBeam", "YoYo", "ApplyLipstick")).write()
    return [root / clip.path for clip in clips]


IMPORT = ("import", "best.pth", "--clip-weights", "clip.safetensors", "--out", "run")


def test_every_command_answers_with_the_checkpoints_class_features(
    published: Published, ucf101: list[Path], ga2clip: Any, empty: Path
) -> None:
    assert ga2clip(*IMPORT, "--classes", "raw.txt", "--dataset", "ucf101").code == 0
    data = json.loads(ga2clip("info", "run", "--json").out)["settings"]["data"]
    assert data["class_names"] == "raw"

    measured = ga2clip("eval", "run", "--protocol", "zero-shot", "--json")
    assert measured.code == 0, measured.err
    best = [int(np.argmax(published.probabilities(file, data["frames"]))) for file in ucf101]
    right = np.mean([label == index % 3 for index, label in enumerate(best)])
    assert json.loads(measured.out)["test"]["top1"] == pytest.approx(right)
    table = (empty / "run/eval/ucf101-zero-shot/per_class.csv").read_text()
    assert all(name in table for name in RAW)
    assert not any(name in table for name in READABLE)

    assert ga2clip("export", "run", "--clip", ucf101[0]).code == 0
    bank = np.load(empty / "run/bundle/text_bank.npz")
    assert bank["classes"].tolist() == RAW
    np.testing.assert_allclose(bank["features"], published.classes().numpy(), atol=1e-4)

    expected = dict(zip(RAW, published.probabilities(ucf101[1], data["frames"]), strict=True))
    for model in ("run", "run/bundle"):
        for classes in ((), ("--classes", "raw.txt")):
            answer = ga2clip("predict", ucf101[1], "--model", model, "--json", *classes)
            rows = json.loads(answer.out)["results"][0]["predictions"]
            assert {row["label"]: row["probability"] for row in rows} == pytest.approx(expected, abs=1e-3)


def test_names_and_templates_that_are_not_the_checkpoints_leave_no_run(
    published: Published, ga2clip: Any, empty: Path
) -> None:
    wrong = ga2clip(*IMPORT, "--classes", "readable.txt")
    assert (wrong.code, "its text reads 'a photo of a balancebeam.'" in wrong.err) == (1, True)
    other = ga2clip(*IMPORT, "--classes", "raw.txt", "--template", "a video of a person doing {}.")
    assert (other.code, "but with 'a photo of a {_}.'" in other.err) == (1, True)
    assert not (empty / "run").exists()


def test_a_dataset_that_has_other_names_is_not_guessed_at(
    published: Published, ucf101: list[Path], ga2clip: Any, empty: Path
) -> None:
    assert ga2clip(*IMPORT, "--classes", "raw.txt").code == 0
    root = ucf101[0].parent
    made = Manifest.read(root)
    Manifest("ucf101", root, READABLE, (), made.clips, {}, ("a", "b", "c")).write()
    words = ("eval", "run", "--dataset", "ucf101", "--protocol", "zero-shot")
    refused = ga2clip(*words)
    assert (refused.code, "tuned on 'BalanceBeam'" in refused.err, "--class-names" in refused.err) == (
        1,
        True,
        True,
    )
    assert ga2clip(*words, "--class-names", "raw.txt").code == 0
    (per_class,) = (empty / "run/eval").glob(
        "ucf101-zero-shot-raw-*/per_class.csv"
    )  # other names, own folder
    assert "Apply_Lipstick" in per_class.read_text()
    other = ga2clip(*words, "--class-names", "readable")
    assert (other.code, "tuned on other names" in other.err) == (0, True)
