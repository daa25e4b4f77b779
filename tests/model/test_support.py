"""What can be done with the architectures that people choose: told from configs, held by the models."""

import copy

import open_clip
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model.blueprint import blueprint_of_name
from ga2clip.model.family import support, support_of, towers_of
from ga2clip.tokenizer import ClipTokenizer

# name: family, level, words of the reason
CHOSEN = {
    "ViT-B-16": ("clip", "full", ""),
    "ViT-B-16-quickgelu": ("clip", "full", ""),
    "ViT-L-14-336": ("clip", "full", ""),
    "ViT-B-32-256": ("clip", "full", ""),
    "ViT-H-14": ("clip", "full", ""),
    "ViT-bigG-14": ("clip", "full", ""),
    "ViT-L-14-CLIPA": ("clip", "full", ""),
    "ViT-B-16-SigLIP": ("timm_vit", "full", ""),
    "ViT-B-16-SigLIP2": ("timm_vit", "full", ""),
    "ViT-SO400M-14-SigLIP2": ("timm_vit", "full", ""),
    "EVA02-B-16": ("timm_vit", "full", ""),
    "EVA02-L-14": ("timm_vit", "full", ""),
    "PE-Core-T-16-384": ("timm_vit", "full", ""),
    "PE-Core-B-16": ("timm_vit", "full", ""),
    "PE-Core-L-14-336": ("timm_vit", "full", ""),
    "MobileCLIP-B": ("timm_vit", "full", ""),
    "MobileCLIP-S1": ("convolutional", "text", "convolutional"),
    "MobileCLIP2-S0": ("convolutional", "text", "convolutional"),
    "MobileCLIP2-B": ("timm_vit", "full", ""),
    "ViT-L-14-worldwide": ("clip", "full", ""),
    "ViT-H-14-worldwide": ("clip", "full", ""),
    "nllb-clip-base": ("clip", "none", "nllb-200-distilled-600M of transformers"),
    "coca_ViT-B-32": ("clip", "none", "appended class token"),
    "RN50": ("convolutional", "text", "convolutional"),
    "convnext_base": ("convolutional", "text", "convolutional"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_support_of_a_chosen_architecture(name: str) -> None:
    family, level, words = CHOSEN[name]
    found = support(name)
    assert (found.family, found.level) == (family, level)
    assert words in found.reason
    assert bool(found.reason) == (level != "full")


def test_no_architecture_of_open_clip_is_without_an_answer() -> None:
    answers = {name: support(name) for name in open_clip.list_models()}
    assert all(answer.reason for answer in answers.values() if answer.level != "full")
    assert sum(answer.level == "full" for answer in answers.values()) >= 80
    config = open_clip.get_model_config("ViT-B-16")
    assert support_of({**config, "nonscalar_logit_scale": True}).reason == "its temperature is not one number"
    with pytest.raises(UserError, match="ViT-B-61"):
        support("ViT-B-61")


def hollow(name: str) -> torch.nn.Module:
    """The real model of a name with the real sizes and no memory."""
    config = copy.deepcopy(open_clip.get_model_config(name))
    with torch.device("meta"):
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        return kind(**config)


@pytest.mark.parametrize("name", [name for name, (_, level, _) in CHOSEN.items() if level != "none"])
@pytest.mark.slow
def test_the_model_of_a_chosen_architecture_is_what_its_config_promises(name: str) -> None:
    config, tokenizer = open_clip.get_model_config(name), ClipTokenizer.from_open_clip()
    towers = towers_of(hollow(name), name, tokenizer)
    assert bool(towers.vision.no_prompts) == (CHOSEN[name][1] == "text")
    assert towers.embed_dim == config["embed_dim"]
    assert towers.context_length == config["text_cfg"]["context_length"]
    assert towers.text.depth == config["text_cfg"]["layers"]
    assert (towers.logit_bias is not None) == ("SigLIP" in name)
    assert blueprint_of_name(name).pixels.size == config["vision_cfg"]["image_size"]


@pytest.mark.slow
def test_every_config_tells_what_its_model_is() -> None:
    """All of open_clip's architectures: support told from a config agrees with what the families accept."""
    wrong = []
    for name in open_clip.list_models():
        told = support(name)
        if told.level == "none":
            continue
        towers = towers_of(hollow(name), name, ClipTokenizer.from_open_clip())
        if bool(towers.vision.no_prompts) != (told.level == "text"):
            wrong.append(name)
    assert not wrong
