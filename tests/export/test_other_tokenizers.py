"""Bundles of models with another tokenizer than CLIP's, and of sigmoid models: as torch's answers, without torch."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.runtime import Predictor
from ga2clip.runtime.bundle import open_bundle
from ga2clip.settings import BackboneSettings, Settings
from ga2clip_export import export
from tests.model import small_families
from tests.small_tokenizers import KINDS

MEMBERS = {"siglip": "siglip", "clipa": "clipa", "worldwide": "xlm_v"}
"""Families, and the tokenizers of their models."""
CLASSES = ["yoga", "riding a bike", "juggling balls"]
NEW = ["kicking balls", "a", "playing the piano, 你好", "opening a large umbrella"]
PROMPTS = {"text_length": 2, "text_depth": 2, "vision_length": 2, "vision_depth": 2}


def write_folder(member: str, folder: Path) -> None:
    """A model as its hub folder has it, with its tokenizer's files."""
    config, pixels = small_families.MEMBERS[member]
    tokenizer = KINDS[MEMBERS[member]]()
    text = {**config["text_cfg"], **tokenizer.text_cfg, "vocab_size": 320}
    text["context_length"] = config["text_cfg"]["context_length"]
    if "eos_id" in text:
        text["eos_id"] = 2
    with patch.dict(small_families.MEMBERS, {member: ({**config, "text_cfg": text}, pixels)}):
        small_families.write_member(member, folder)
    tokenizer.write(folder)


@pytest.fixture(
    scope="module",
    params=[
        member if member == "siglip" else pytest.param(member, marks=pytest.mark.slow) for member in MEMBERS
    ],
)
def exported(request, tmp_path_factory) -> Iterator[tuple[VideoCLIP, Path, str]]:
    folder = tmp_path_factory.mktemp(request.param)
    with small_families.small_timm():
        write_folder(request.param, folder / "hub")
        tree = method_settings("ivlp")
        tree["method"] = {**tree.get("method", {}), **PROMPTS}
        settings = Settings().updated(tree, "the test")
        backbone = load_backbone(BackboneSettings(name="", pretrained=str(folder / "hub")))
        torch.manual_seed(0)
        model = build_model(backbone, settings, CLASSES).eval()
        with patch.dict("ga2clip_export.export.__dict__", {"_CLIPS_SMALL": 4}):
            bundle = export.export_model(model, folder / "bundle")
        yield model, bundle, request.param


def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 40, 64, 3), dtype=np.uint8)


def torch_answer(model: VideoCLIP, names: list[str]) -> np.ndarray:
    """open_clip's rules written out: softmax, or sigmoid(scale · cosine + bias)."""
    with torch.no_grad():
        pixels = model.preprocess.normalise(model.preprocess.frames(frames()))
        video = model.encode_video(torch.from_numpy(pixels)[None])
        cosines = torch.cosine_similarity(video[:, None], model.encode_classes(names)[None], dim=-1)[0]
        logits = model.backbone.logit_scale.exp() * cosines
        bias = model.backbone.logit_bias
        return (logits.softmax(0) if bias is None else (logits + bias).sigmoid()).double().numpy()


@pytest.mark.parametrize("names", [CLASSES, NEW, [*CLASSES, *NEW]], ids=["bank", "new", "both"])
def test_answers_equal_torch(exported, names: list[str]) -> None:
    model, bundle, _ = exported
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        answer = dict(predictor.predict_frames(frames(), names, top=99).predictions)
    np.testing.assert_allclose([answer[name] for name in names], torch_answer(model, names), atol=1e-4)


def test_without_torch_and_from_the_cache(exported, tmp_path: Path, monkeypatch) -> None:
    """The first process encodes the names; the second finds them in the cache and needs no tokenizer."""
    model, bundle, _ = exported
    np.save(tmp_path / "frames.npy", frames())
    code = (
        "import sys, json, numpy as np; from ga2clip.runtime import Predictor\n"
        f"p = Predictor({str(bundle)!r}, provider='cpu')\n"
        f"a = p.predict_frames(np.load({str(tmp_path / 'frames.npy')!r}), {NEW!r}, top=99)\n"
        "assert not {'torch', 'open_clip', 'transformers'} & set(sys.modules)\n"
        "print(json.dumps([dict(a.predictions), 'tokenizers' in sys.modules]))"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answers = []
    for loaded in (True, False):
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        answer, used = json.loads(done.stdout)
        assert used == loaded
        answers.append(answer)
    assert answers[0] == answers[1]
    np.testing.assert_allclose([answers[0][name] for name in NEW], torch_answer(model, NEW), atol=1e-4)


def test_the_card_says_what_the_model_is(exported) -> None:
    model, bundle, member = exported
    card = open_bundle(bundle).card
    assert card.text.tokenizer == "json"
    assert (card.text.pad, card.text.blank_end) == {
        "siglip": (1, False),
        "clipa": (0, True),
        "worldwide": (1, False),
    }[member]
    assert card.text.cleaning == ("canonicalize" if member == "siglip" else "whitespace")
    assert card.preprocess.resize_mode == ("shortest" if member == "worldwide" else "squash")
    rule = ("sigmoid", model.backbone.bias) if member == "siglip" else ("softmax", 0.0)
    assert (card.scoring.rule, card.scoring.bias) == rule
    text = open_bundle(bundle).describe()
    assert ("need not sum to 1" in text) == (member == "siglip")


def test_a_class_alone_has_the_probability_that_it_has_among_others(exported) -> None:
    _, bundle, member = exported
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        assert predictor.scoring == ("sigmoid" if member == "siglip" else "softmax")
        many = dict(predictor.predict_frames(frames(), CLASSES, top=9).predictions)
        one = dict(predictor.predict_frames(frames(), CLASSES[:1], top=9).predictions)
    if member == "siglip":
        # A product with one row and one with nine round differently: the last digits of float32 in logits of −5.
        assert one[CLASSES[0]] == pytest.approx(many[CLASSES[0]], rel=2e-6)
        assert sum(many.values()) < 0.9
    else:
        assert one[CLASSES[0]] == 1
        assert sum(many.values()) == pytest.approx(1)


def test_names_that_the_tokenizer_confuses_are_refused(exported) -> None:
    """Two new names, and a new one beside one of the bank: punctuation is cleaned away, snowmen are unknown."""
    model, bundle, member = exported
    pairs = [["C++", "C#"], ["riding a bike", "riding a bike!"]] if member == "siglip" else [["☃", "☂"]]
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        for pair in pairs:
            with pytest.raises(UserError, match="the same to the model's tokenizer"):
                predictor.encode_classes([*pair, "yoga"])
            with pytest.raises(UserError, match="the same to the model's tokenizer"):
                model.class_tokens(pair)


def test_names_that_are_confused_are_refused_from_the_cache_too(
    exported, tmp_path: Path, monkeypatch
) -> None:
    _, bundle, member = exported
    if member != "siglip":
        pytest.skip("only its cleaning removes punctuation")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Predictor(bundle, provider="cpu") as predictor:
        for name in ("C++", "C#"):
            predictor.encode_classes([name])
    with (
        Predictor(bundle, provider="cpu") as predictor,
        pytest.raises(UserError, match="the same to the model's tokenizer"),
    ):
        predictor.encode_classes(["C++", "C#"])


def test_another_tokenizer_is_another_model(exported) -> None:
    model, _, _ = exported
    own = model.backbone.conventions()["tokenizer"]
    with patch.object(model.backbone.tokenizer, "pad", 3):
        assert model.backbone.conventions()["tokenizer"] != own
    assert model.backbone.conventions()["tokenizer"] == own


def test_new_names_need_the_library_and_known_ones_don_t(exported, monkeypatch) -> None:
    _, bundle, _ = exported
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with Predictor(bundle, provider="cpu", cache=False) as predictor:
        assert len(predictor.predict_frames(frames(), CLASSES, top=9).predictions) == 3
        with pytest.raises(MissingExtraError) as raised:
            predictor.predict_frames(frames(), NEW)
    assert "ga2clip[multilingual]" in str(raised.value.hint)
