"""The shipped backbone: what is in its file, that open_clip takes it whole, and that it knows the classes."""

import hashlib
import json
from importlib import resources
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

from ga2clip.data.stickfigures import BASE_CLASSES, CLASS_SETS, CLASSES, OTHER_CLASSES
from ga2clip.data.stickfigures.classes_order import BASE_PAIRS, NOVEL_PAIRS
from ga2clip.data.stickfigures.pictures import vocabulary
from ga2clip.data.stickfigures.render import render_clip
from ga2clip.model.backbone import Backbone
from ga2clip.model.load_backbone import load_backbone
from ga2clip.settings import BackboneSettings

FOLDER = Path(str(resources.files("ga2clip.assets"))) / "tiny"


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    with safe_open(FOLDER / "weights.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSettings())


def test_the_file_is_small_and_half_precision(tensors: dict[str, torch.Tensor]) -> None:
    assert (FOLDER / "weights.safetensors").stat().st_size <= 8_000_000
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    assert dtypes.pop("token_embedding.ids") == torch.int32
    assert set(dtypes.values()) == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_token_rows_hold_every_word_that_classes_and_captions_use(tensors: dict[str, torch.Tensor]) -> None:
    ids = tensors["token_embedding.ids"].tolist()
    assert ids == sorted(set(ids))
    assert len(ids) == len(tensors["token_embedding.rows"])
    names = [name for classes in CLASS_SETS.values() for name in classes.by_name]
    used = open_clip.tokenize([*vocabulary(), *names]).unique().tolist()
    assert set(used) <= set(ids)


def test_the_two_names_of_a_pair_are_two_texts(backbone: Backbone) -> None:
    """Words without a row are zeros: "opening a door" and "closing a door" would be one text."""
    names = [action.name for pair in BASE_PAIRS + NOVEL_PAIRS for action in pair]
    ids = open_clip.tokenize([f"a video of a person doing {name}." for name in names])[:, 1:]
    with torch.no_grad():
        texts = torch.nn.functional.normalize(backbone.text(ids), dim=-1).view(-1, 2, 128)
    assert (texts[:, 0] * texts[:, 1]).sum(dim=-1).max() < 0.9


def test_rows_that_pre_training_left_are_kept_where_words_are_added(tensors: dict[str, torch.Tensor]) -> None:
    """Recorded before `scripts/learn_words.py` ran: numbers measured on older class names stay what they are."""
    ids, rows = tensors["token_embedding.ids"], tensors["token_embedding.rows"]
    old = torch.isin(ids, open_clip.tokenize([*vocabulary(), *CLASSES, *OTHER_CLASSES]).unique())
    old |= ids == 0
    assert int(old.sum()) == 266
    digest = hashlib.sha256(rows[old].numpy().tobytes()).hexdigest()
    assert digest == "c8a19dc83cae13743de0a8b19b44ea82f32c760442105c08846a5448bf8822ce"


def test_open_clip_takes_the_weights_strictly(tensors: dict[str, torch.Tensor], backbone: Backbone) -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    del config["preprocess"]
    clip = open_clip.CLIP(**config)
    whole = torch.zeros_like(clip.token_embedding.weight)
    whole[tensors["token_embedding.ids"].long()] = tensors["token_embedding.rows"].float()
    plain = {
        name: tensor.float() for name, tensor in tensors.items() if not name.startswith("token_embedding")
    }
    clip.load_state_dict({**plain, "token_embedding.weight": whole}, strict=True)
    pixels = torch.rand(2, 3, 72, 72)
    with torch.no_grad():
        assert torch.allclose(clip.eval().encode_image(pixels), backbone.vision(pixels), atol=1e-4)


@pytest.mark.parametrize("template", ["a video of a person doing {}.", "a video of a person {}."])
def test_zero_shot_is_far_above_chance_and_far_below_perfect(backbone: Backbone, template: str) -> None:
    frames = np.concatenate([render_clip(name, 700_000)[::6] for name in CLASSES])
    pixels = torch.from_numpy(backbone.preprocess.normalise(backbone.preprocess.frames(frames)))
    ids = open_clip.tokenize([template.format(name) for name in CLASSES])[:, 1:]
    with torch.no_grad():
        videos = (
            torch.nn.functional.normalize(backbone.vision(pixels), dim=-1).view(len(CLASSES), 4, -1).mean(1)
        )
        texts = torch.nn.functional.normalize(backbone.text(ids), dim=-1)
    right = (videos @ texts.T).argmax(1) == torch.arange(len(CLASSES))
    base = len(BASE_CLASSES)
    assert 0.3 < right.float().mean() < 0.85  # chance is 0.025
    assert right[:base].float().mean() > 0.25
    assert right[base:].float().mean() > 0.25
