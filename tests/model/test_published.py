"""Models by the tag of their published weights: their tokenizer, and how long they take without a download."""

import copy
import importlib.util
from collections.abc import Iterator

import open_clip
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model import download
from ga2clip.model.load_backbone import backbone_to_time, default_weights, load_backbone
from ga2clip.settings import BackboneSettings
from tests.ground.test_tokenizer_json import reference
from tests.model.small_families import MEMBERS, make_model, small_timm
from tests.small_tokenizers import KINDS

SIGLIP = BackboneSettings(name="ViT-B-16-SigLIP", pretrained="webli")


THEIRS = reference(KINDS["siglip"]())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of open_clip, which has a small SigLIP with a small tokenizer of its kind."""
    names: list[str] = []

    def tokenizer(name: str) -> object:
        names.append(name)
        return THEIRS

    monkeypatch.setattr(download, "_answers", lambda _: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(open_clip, "get_tokenizer", tokenizer)
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: make_model("siglip"))
    with small_timm():
        yield names


def test_a_tag_brings_the_tokenizer_that_open_clip_has_for_it(asked: list[str]) -> None:
    backbone = load_backbone(SIGLIP)
    assert asked == ["ViT-B-16-SigLIP"]
    texts = ["Riding a bike, juggling balls!", "yoga 你好"]
    theirs = THEIRS(texts).numpy()
    assert (backbone.tokenizer.tokens(texts, length=theirs.shape[1]) == theirs).all()
    assert backbone.preprocess.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "tag"),
    [("tiny", "builtin"), ("ViT-B-16", "openai"), ("ViT-B-16-SigLIP", "webli"), ("PE-Core-T-16-384", "meta")],
)
def test_weights_that_need_not_be_named(name: str, tag: str) -> None:
    assert default_weights(name) == tag


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("ViT-H-14", "must be named", "laion2b_s32b_b79k, metaclip_fullcc"),
        ("ViT-H-16", "must be named", "has none: give a file"),
        ("ViT-B-61", "unknown backbone 'ViT-B-61'", "ViT-B-16"),
    ],
)
def test_weights_that_must_be_named(name: str, message: str, hint: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        default_weights(name)
    assert hint in str(caught.value.hint)


def test_a_tokenizer_that_cannot_be_had_is_told(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise OSError("no such repository")

    monkeypatch.setattr(open_clip, "get_tokenizer", refuse)
    with pytest.raises(UserError, match="the tokenizer of ViT-B-16-SigLIP: no such repository"):
        load_backbone(SIGLIP)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="with transformers, which is not installed") as caught:
        load_backbone(SIGLIP)
    assert "--pretrained FOLDER" in str(caught.value.hint)


def test_what_a_tag_costs_is_measured_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: copy.deepcopy(MEMBERS["siglip"][0]))
    with small_timm():
        backbone = backbone_to_time(SIGLIP.model_copy(update={"image_size": 48}))
    assert (backbone.scoring, backbone.preprocess.size) == ("sigmoid", 48)
    with torch.no_grad():
        assert backbone.vision(torch.rand(1, 3, 48, 48)).shape == (1, 32)
        assert backbone.text(backbone.ids(["playing the piano"])).shape == (1, 32)
