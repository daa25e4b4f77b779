"""How the architecture of a weights file becomes known: by whom, in which order, and what is refused.

`tests/parity/test_checkpoints.py` has the features of every layout; here are the words and the wrong guesses.
"""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import build_model
from ga2clip.run import load_run, write_run
from ga2clip.settings import BackboneSettings, Settings
from ga2clip.video.preprocess import CLIP_MEAN, CLIP_STD
from tests import layouts
from tests.model.weights_files import INCEPTION, NAME, close, config, load, refusal, write_config


def test_heads_of_vit_h_are_80_wide(tmp_path: Path) -> None:
    """ViT-H-14 is 1,280 wide in 16 heads; 1280 / 64 would be 20."""
    torch.manual_seed(0)
    sizes = {"image_size": 28, "patch_size": 14, "width": 1280, "head_width": 80, "layers": 1}
    text = {"width": 64, "heads": 1, "layers": 1}
    clip = open_clip.CLIP(embed_dim=16, vision_cfg=sizes, text_cfg=text).eval()  # type: ignore[arg-type]
    torch.save(clip.state_dict(), tmp_path / "h.pt")
    write_config(tmp_path, {"embed_dim": 16, "vision_cfg": sizes, "text_cfg": text}, "h.json")
    backbone = load(tmp_path / "h.pt")
    pixels = torch.randn(1, 3, 28, 28)
    assert backbone.conventions()["heads"] == {"vision": 16, "text": 1}
    with torch.no_grad():
        close(backbone.vision(pixels), clip.encode_image(pixels))


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_the_config_beside_a_file_says_its_activation(beside: Path, quick_gelu: bool) -> None:
    write_config(beside, {"model_cfg": config(quick_gelu)})
    clip = open_clip.CLIP(**config(quick_gelu)).eval()
    clip.load_state_dict(layouts.make_clip(layouts.PLAIN, quick_gelu).state_dict())
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        close(load(beside / "clip.safetensors").vision(pixels), clip.encode_image(pixels))


def test_without_any_word_a_file_is_refused_with_the_names_that_fit(weights: Path, published: None) -> None:
    text = refusal(weights)
    assert "is unknown: activation and heads" in text
    assert f"--backbone {NAME}" in text
    assert "--backbone openai" in text
    assert "open_clip_config.json" in text
    # An old run's settings: the default name, and an activation that was assumed for every file.
    assert "is unknown: activation and heads" in refusal(weights, quick_gelu=True)


@pytest.mark.parametrize(
    ("name", "words", "activation", "mean"),
    [
        (NAME, {}, "GELU", None),
        (NAME, {"quick_gelu": True}, "QuickGELU", None),
        (f"{NAME}/gelu", {}, "GELU", None),
        (f"{NAME}/quick", {}, "QuickGELU", INCEPTION),
        ("openai", {}, "QuickGELU", None),
    ],
)
def test_names_say_activation_and_pixels(
    weights: Path, published: None, name: str, words: dict[str, Any], activation: str, mean: Any
) -> None:
    backbone = load(weights, name=name, **words)
    assert backbone.conventions()["activation"] == {"vision": activation, "text": activation}
    assert backbone.preprocess.mean == (mean or CLIP_MEAN)


def test_a_name_alone_says_which_published_weights_differ(
    weights: Path, published: None, caplog: pytest.LogCaptureFixture
) -> None:
    load(weights, name=NAME)
    assert f"{NAME}, with GELU and CLIP's pixel values" in caplog.text
    assert "quick, squash" in caplog.text
    caplog.clear()
    load(weights, name=f"{NAME}/gelu")
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (config(layers=3), "vision layers 2, not 3"),
        (config(width=64), "vision width 128, not 64"),
        (config(image_size=64), "patches per side 2, not 4"),
        (config(mlp_ratio=2.0), "vision MLP width 512, not 256"),
        (config(timm_model_name="vit_base"), "not supported: its vision tower vit_base is of a kind"),
        (config(attentional_pool=True), "not supported: its vision tower is pooled by queries"),
        (config(qk_norm=True), "not supported: its vision tower has attention blocks of another kind"),
        (config(no_ln_pre=True), "unexpected: visual.ln_pre.bias, visual.ln_pre.weight"),
        (config(no_ln_pre=True, width="2"), "describes no model that open_clip builds"),
        (config(no_ln_pre=True, colour="red"), "keys that open_clip does not know: vision_cfg.colour"),
        (config(no_ln_pre=True, layers=10**9), "says layers = 1000000000, and the file has"),
        (config(head_width=500), "cannot be cut into 0 heads"),
        (config(layers="2"), "vision_cfg.layers"),
        ({"model_cfg": config(), "preprocess_cfg": {"resize_mode": "squash"}}, "resize_mode = 'squash'"),
        (
            {"model_cfg": config(), "preprocess_cfg": {"mean": [0.5], "std": [1]}},
            "'mean' must be three numbers",
        ),
        ({"model_cfg": config(), "preprocess_cfg": {"std": INCEPTION}}, "says the std of pixels alone"),
        ({"vision_config": {}, "model_type": "siglip"}, "describes a 'siglip'"),
        ({"vision_config": {"hidden_act": "gelu_new"}, "model_type": "clip"}, "gelu_new"),
        ({"epoch": 3}, "is unknown: activation and heads"),
        ("{", "is not valid JSON"),
        ("[]", "holds no JSON object"),
    ],
)
def test_configs_that_do_not_fit_are_refused(beside: Path, content: Any, said: str) -> None:
    write_config(beside, content)
    assert said in refusal(beside / "clip.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"text_cfg": {"no_causal_mask": True}},
        {"text_cfg": {"pool_type": "eos", "eos_id": 49407}},
        {"vision_cfg": {"pool_type": "avg"}},
        {"vision_cfg": {"norm_kwargs": {"eps": 0.1}}},
        {"custom_text": True},
    ],
)
def test_the_same_tensors_as_models_of_other_kinds(beside: Path, change: dict[str, Any]) -> None:
    """What a config says beyond a plain CLIP is believed, not dropped: the tensors would fit that, too."""
    found = config()
    changed = {
        key: {**found[key], **value} if isinstance(value, dict) else value for key, value in change.items()
    }
    write_config(beside, {**found, **changed})
    kind = open_clip.CustomTextCLIP if change.get("custom_text") else open_clip.CLIP
    reference = kind(**{k: v for k, v in {**found, **changed}.items() if k != "custom_text"}).eval()
    state = layouts.make_clip(layouts.PLAIN, quick_gelu=False).state_dict()
    if change.get("custom_text"):
        state = {n if n.startswith(("visual.", "logit")) else f"text.{n}": v for n, v in state.items()}
    reference.load_state_dict(state)
    backbone, pixels = load(beside / "clip.safetensors"), torch.randn(2, 3, 32, 32)
    ids = torch.from_numpy(backbone.tokenizer.tokens(layouts.TEXTS, length=77))
    with torch.no_grad():
        close(backbone.vision(pixels), reference.encode_image(pixels))
        close(backbone.text(backbone.ids(layouts.TEXTS)), reference.encode_text(ids))


def test_configs_of_other_kinds_must_agree(beside: Path, published: None) -> None:
    file = beside / "clip.safetensors"
    write_config(beside, config(pool_type="avg"), "clip.json")
    said = refusal(file, name=NAME)
    assert f"clip.json says vision_cfg.pool_type = 'avg'; open_clip's {NAME} says 'tok'" in said
    assert "says GELU; backbone.quick_gelu says QuickGELU" in refusal(file, quick_gelu=True)


def test_sources_that_contradict_each_other_are_refused(beside: Path, published: None) -> None:
    clips = {"mean": CLIP_MEAN, "std": CLIP_STD}
    write_config(beside, {"model_cfg": config(quick_gelu=True), "preprocess_cfg": clips}, "clip.json")
    file = beside / "clip.safetensors"
    assert "clip.json says QuickGELU; backbone.quick_gelu says GELU" in refusal(file, quick_gelu=False)
    assert f"open_clip's {NAME}/gelu says GELU" in refusal(file, name=f"{NAME}/gelu")
    old = Settings.from_dict(
        {"backbone": {"name": "tiny", "pretrained": str(file), "quick_gelu": True}}, "old run"
    )
    assert load_backbone(old.backbone).conventions()["activation"]["vision"] == "QuickGELU"
    assert load(file, name=NAME).conventions()["activation"]["vision"] == "QuickGELU"
    write_config(beside, config(quick_gelu=True, head_width=32), "clip.json")
    assert f"clip.json says 4 + 1 heads; open_clip's {NAME} says 2 + 1 heads" in refusal(file, name=NAME)
    assert "vision width 128, not 768" in refusal(file, name="ViT-B-16")
    pixels = {"mean": [0.1, 0.1, 0.1], "std": INCEPTION}
    write_config(beside, {"model_cfg": config(True), "preprocess_cfg": pixels}, "clip.json")
    assert "mean (0.1, 0.1, 0.1)" in refusal(file, name=f"{NAME}/quick")


def test_a_vocabulary_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    found = config()
    found["text_cfg"] = {**found["text_cfg"], "vocab_size": 1000}
    torch.save(open_clip.CLIP(**found).state_dict(), tmp_path / "worldwide.pt")
    write_config(tmp_path, found)
    assert "vocabulary of 1,000; CLIP's tokenizer has 49,408" in refusal(tmp_path / "worldwide.pt")


def test_an_archive_in_sizes_that_openai_cannot_have_made_is_refused(tmp_path: Path) -> None:
    clip = layouts.make_clip(layouts.WIDE_HEADS, quick_gelu=True)
    torch.save(layouts.as_modules(clip.state_dict(), 32).state_dict(), tmp_path / "clip.pt")
    assert "no heads of 64" in refusal(tmp_path / "clip.pt")


def test_files_that_are_no_clip_to_start_from(tmp_path: Path) -> None:
    state = layouts.make_clip(layouts.PLAIN, True).state_dict()
    file = tmp_path / "x.pt"
    torch.save({"model": {"module.prompt_learner.ctx": torch.zeros(2, 2), **state}}, file)
    assert f"ga2clip import {file}" in refusal(file)
    torch.save({"model_state_dict": state, "fusion_model_state_dict": {"w": torch.zeros(2)}}, file)
    assert "temporal header" in refusal(file)
    torch.save(state | {"visual.proj": torch.zeros(128, 24, dtype=torch.int8)}, file)
    assert "visual.proj is not a plain array of floating-point numbers" in refusal(file)
    torch.save({"hello": "world"}, file)
    assert "not a checkpoint of named tensors" in refusal(file)


def test_shapes_that_promise_more_than_the_file_holds(tmp_path: Path) -> None:
    """The names of ten thousand blocks cost nothing; a model of them would take all memory."""
    whole = layouts.make_clip(layouts.PLAIN, True)
    state = layouts.as_modules(whole.state_dict(), 32).state_dict()
    state |= {f"transformer.resblocks.{i}.ln_1.bias": torch.zeros(1) for i in range(10_000)}
    torch.save(state, tmp_path / "hollow.pt")
    assert "numbers, and the model of its shapes has 49" in refusal(tmp_path / "hollow.pt")


def test_the_second_file_of_a_vision_tower(tmp_path: Path) -> None:
    clip = layouts.make_clip(layouts.PLAIN, True)
    tower = layouts.ga2_vision_tower(tmp_path, clip, {})
    whole = tmp_path / "clip.safetensors"
    assert "backbone.text_from" in refusal(tower)
    assert "has no text tower" in refusal(tower, text_from=str(tower))
    with pytest.raises(UserError, match="vision tower alone"):
        load_backbone(BackboneSettings(text_from=str(whole)))
    assert "has a text tower of its own" in refusal(whole, text_from=str(whole), name="openai")


@pytest.fixture
def towers(tmp_path: Path) -> tuple[Path, Path]:
    """A vision tower that says nothing of itself, and GA2-CLIP's, which is QuickGELU."""
    state = layouts.make_clip(layouts.PLAIN, True).state_dict()
    vision = {name: value for name, value in state.items() if name.startswith("visual.")}
    torch.save(vision, tmp_path / "silent.pt")
    return tmp_path / "silent.pt", layouts.ga2_vision_tower(
        tmp_path, layouts.make_clip(layouts.PLAIN, True), {}
    )


def test_what_one_of_two_files_says_is_not_said_of_the_other(
    towers: tuple[Path, Path], tmp_path: Path
) -> None:
    silent, ga2 = towers
    clip = layouts.make_clip(layouts.PLAIN, True)
    archive = layouts.state_dict_of_an_archive(tmp_path, clip, {})
    plain = tmp_path / "clip.safetensors"
    for vision, text, wordless in ((silent, archive, silent), (ga2, plain, plain), (silent, plain, silent)):
        said = refusal(vision, text_from=str(text))
        assert f"the architecture of {wordless} is unknown" in said
        assert "--backbone openai" in said
        backbone = load(vision, text_from=str(text), name="openai")
        assert backbone.conventions()["activation"] == {"vision": "QuickGELU", "text": "QuickGELU"}
    assert load(ga2, text_from=str(archive)).conventions()["heads"] == {"vision": 2, "text": 1}


@pytest.mark.parametrize(
    ("model", "pixels", "said"),
    [
        (config(False), {}, r"QuickGELU; .*open_clip_config.json says GELU"),
        (config(True), {"mean": INCEPTION, "std": INCEPTION}, r"and std .*mean \(0.5, 0.5, 0.5\)"),
        (config(True, head_width=32), {}, r"says 2 \+ 1 heads; .*says 4 \+ 1 heads"),
        (config(True, layers=3), {}, "vision layers 2, not 3"),
    ],
)
def test_the_config_of_the_text_towers_file_must_agree(
    model: dict[str, Any], pixels: dict[str, Any], said: str, towers: tuple[Path, Path], tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    layouts.hub_folder(hub, layouts.make_clip(layouts.PLAIN, True), {})
    write_config(hub, {"model_cfg": model, "preprocess_cfg": pixels})
    with pytest.raises(UserError, match=said):
        load(towers[1], text_from=str(hub))
    write_config(hub, {"model_cfg": config(True)})
    assert load(towers[1], text_from=str(hub)).conventions()["activation"]["text"] == "QuickGELU"


def test_one_piece_of_several_points_to_their_index(tmp_path: Path) -> None:
    clip = layouts.make_clip(layouts.PLAIN, True)
    layouts.transformers_shards(tmp_path, clip, config(True))
    piece = tmp_path / "pytorch_model-00001-of-00002.bin"
    assert f"{piece} is one of the 2 files that its model was cut into" in refusal(piece)
    assert f"name {tmp_path / 'pytorch_model.bin.index.json'}" in refusal(piece)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused(dtype: torch.dtype, value: float, tmp_path: Path) -> None:
    state = {n: v.to(dtype) for n, v in layouts.make_clip(layouts.PLAIN, True).state_dict().items()}
    torch.save(state, tmp_path / "clip.pt")
    assert load(tmp_path / "clip.pt", name="openai")
    state["transformer.resblocks.0.ln_1.bias"][3] = value
    torch.save(state, tmp_path / "clip.pt")
    assert "not finite (NaN or infinity) in transformer.resblocks.0.ln_1.bias" in refusal(
        tmp_path / "clip.pt", name="openai"
    )


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    assert "holds no weights file" in refusal(folder)
    for name in ("a.pt", "b.pt"):
        (folder / name).touch()
    assert "several weights files\nname one of them: a.pt, b.pt" in refusal(folder)
    write_config(folder, {"weight_map": {"x": "../a.pt"}}, "model.safetensors.index.json")
    assert "names a file in another folder" in refusal(folder)
    monkeypatch.chdir(tmp_path)
    for name, words in (("ViT-B-16", "is not a pretrained tag"), ("", "needs the name of an architecture")):
        with pytest.raises(UserError, match=f"weights'? {words}") as caught:
            load_backbone(BackboneSettings(name=name, pretrained="weights"))
        assert caught.value.hint == "for the folder of that name write ./weights"


def test_a_run_keeps_to_what_it_was_tuned_with(beside: Path, tmp_path: Path) -> None:
    """The config that stood beside the weights is part of the model: another one later is noticed."""
    write_config(beside, config(quick_gelu=True), "clip.json")
    settings = Settings().updated(
        {"backbone": {"pretrained": str(beside / "clip.safetensors")}, "method": {"text_length": 2}}, "test"
    )
    model = build_model(load_backbone(settings.backbone), settings, ["running", "sitting"])
    run = load_run(write_run(tmp_path / "run", settings, model))
    assert run.settings == settings
    close(run.model().encode_classes(["running"]), model.eval().encode_classes(["running"]))
    write_config(beside, config(quick_gelu=False), "clip.json")
    with pytest.raises(UserError, match="was tuned on a backbone with"):
        run.model()
