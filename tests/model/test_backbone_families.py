"""A small member of every family: loaded from a file, equal to open_clip without prompts, trained with prompts.

Prompts are compared with a plain reading: open_clip's or timm's own blocks over all tokens, prompts among them.
"""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import pytest
import torch
from open_clip.model import resize_pos_embed
from open_clip.timm_model import TimmModel
from open_clip.transformer import text_global_pool
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.methods import method_settings
from ga2clip.model.towers import with_weights
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import BackboneSettings, Settings
from tests.model.small_families import CONVOLUTIONAL, MEMBERS, TRANSFORMERS, small_timm, write_member

TEXTS = ["riding a horse", "x", "playing the violin in an orchestra"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Path, Any]]]:
    """A function member → (folder of its weights, open_clip's model of them)."""
    written: dict[str, tuple[Path, Any]] = {}

    def write(member: str) -> tuple[Path, Any]:
        if member not in written:
            folder = tmp_path_factory.mktemp("members") / member
            written[member] = (folder, write_member(member, folder))
        return written[member]

    with small_timm():
        yield write


def load(folder: Path, **words: Any) -> Backbone:
    return load_backbone(BackboneSettings(pretrained=str(folder), **words))


def pixels_of(backbone: Backbone, count: int = 2) -> Tensor:
    return torch.randn(count, 3, backbone.preprocess.size, backbone.preprocess.size)


def whole_texts(backbone: Backbone) -> Tensor:
    """Token ids as open_clip's tokenizers give them: filled up to the context."""
    return torch.from_numpy(backbone.tokenizer.tokens(TEXTS, length=backbone.context_length))


@pytest.mark.parametrize("member", MEMBERS)
def test_without_prompts_the_features_are_open_clips(member: str, folders: Callable[..., Any]) -> None:
    folder, reference = folders(member)
    backbone = load(folder)
    pixels, config = pixels_of(backbone), MEMBERS[member][1]
    with torch.no_grad():
        theirs = reference.encode_image(pixels), reference.encode_text(whole_texts(backbone))
        ours = backbone.vision(pixels), backbone.text(backbone.ids(TEXTS))
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert expected.std(dim=0).mean() > 3e-4  # the inputs matter
    stated = backbone.preprocess
    assert (list(stated.mean), stated.resize_mode, stated.interpolation) == (
        config["mean"],
        config["resize_mode"],
        config["interpolation"],
    )
    assert backbone.scoring == ("sigmoid" if member == "siglip" else "softmax")


def plain_vision(visual: Any, pixels: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """Prompts behind the patches in every frame, replaced before each prompted block, never read."""
    trunk, table = (visual.trunk, None) if isinstance(visual, TimmModel) else (visual, None)
    if isinstance(visual, TimmModel):
        x = trunk._pos_embed(trunk.patch_embed(pixels))
        x, table = x if isinstance(x, tuple) else (x, None)
        enter, blocks = trunk.norm_pre, trunk.blocks
    else:
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], 1) + visual.positional_embedding
        enter, blocks = visual.ln_pre, visual.transformer.resblocks
    count = len(prompts[0])
    if table is not None:  # prompts are turned by no angle
        width = table.shape[1] // 2
        still = torch.cat([torch.zeros(count, width), torch.ones(count, width)], dim=1).to(table)
        table = torch.cat([table, still])
    x = enter(torch.cat([x, prompts[0].expand(len(x), -1, -1)], dim=1))
    for index, block in enumerate(blocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, :-count], prompts[index].expand(len(x), -1, -1)], dim=1)
        x = block(x) if table is None else block(x, rope=table)
    x = x[:, :-count]
    if isinstance(visual, TimmModel):
        return visual.head(trunk.forward_head(trunk.norm(x)))
    return visual._pool(x)[0] @ visual.proj


def plain_text(model: Any, backbone: Backbone, prompts: Sequence[Tensor]) -> Tensor:
    """Prompts in the places behind SOT, words moved back, all texts as long as the context."""
    text, count = getattr(model, "text", model), len(prompts[0])
    places = torch.zeros(len(TEXTS), count, dtype=torch.int64)
    words = torch.from_numpy(backbone.tokenizer.tokens(TEXTS, length=backbone.context_length - count))
    ids = torch.cat([words[:, :1], places, words[:, 1:]], dim=1)

    def put(x: Tensor, prompt: Tensor) -> Tensor:
        return torch.cat([x[:, :1], prompt.expand(len(x), -1, -1), x[:, 1 + count :]], dim=1)

    x = put(text.token_embedding(ids), prompts[0]) + text.positional_embedding
    for index, block in enumerate(text.transformer.resblocks):
        x = put(x, prompts[index]) if 0 < index < len(prompts) else x
        x = block(x, attn_mask=None if text.attn_mask is None else text.attn_mask.to(x.dtype))
    kind = getattr(text, "text_pool_type", getattr(text, "pool_type", ""))
    end = getattr(text, "text_eos_id", getattr(text, "eos_id", 0))
    pooled = text_global_pool(text.ln_final(x), ids, kind, end)
    project = text.text_projection
    return project(pooled) if isinstance(project, torch.nn.Linear) else pooled @ project


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("member", TRANSFORMERS)
def test_vision_prompts_are_those_of_the_plain_reading(
    member: str, depth: int, folders: Callable[..., Any]
) -> None:
    folder, reference = folders(member)
    vision = load(folder).vision.double()
    prompts = [0.3 * torch.randn(3, vision.width, dtype=torch.float64) for _ in range(depth)]
    pixels = pixels_of(load(folder)).double()
    expected = plain_vision(reference.visual.double(), pixels, prompts)
    reference.float()
    found = vision(pixels, prompts)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)  # timm's positions are float32
    assert (found - vision(pixels)).norm() > 1e-3 * found.norm()
    check_gradients(lambda values: vision(pixels, values), prompts)


@pytest.mark.parametrize("member", MEMBERS)
def test_text_prompts_are_those_of_the_plain_reading(member: str, folders: Callable[..., Any]) -> None:
    folder, reference = folders(member)
    backbone = load(folder)
    text, ids = backbone.text.double(), backbone.ids(TEXTS, 3)
    prompts = [0.3 * torch.randn(3, text.width, dtype=torch.float64) for _ in range(2)]
    expected = plain_text(reference.double(), backbone, prompts)
    reference.float()
    torch.testing.assert_close(text(ids, prompts), expected, atol=1e-9, rtol=1e-9)
    check_gradients(lambda values: text(ids, values), prompts)


def check_gradients(function: Callable[[list[Tensor]], Tensor], prompts: list[Tensor]) -> None:
    """Gradients of prompts (float64) against central differences in a random direction of each."""
    direction = torch.randn_like(function(prompts))
    leaves = [prompt.clone().requires_grad_() for prompt in prompts]
    (function(leaves) * direction).sum().backward()
    for index, leaf in enumerate(leaves):
        step = torch.randn_like(leaf)
        step *= 1e-4 / step.norm()
        ends = [
            (
                function([p + sign * step if i == index else p for i, p in enumerate(prompts)]) * direction
            ).sum()
            for sign in (1, -1)
        ]
        assert leaf.grad is not None
        assert float((leaf.grad * step).sum()) == pytest.approx(
            float(ends[0] - ends[1]) / 2, rel=1e-3, abs=1e-9
        )


def make(folder: Path, name: str, **sections: Any) -> VideoCLIP:
    tree = method_settings(name)
    tree["backbone"] = {"pretrained": str(folder)}
    settings = Settings().updated(tree, "test").updated(sections, "test")
    backbone = load_backbone(settings.backbone)
    hard = (
        torch.randn(settings.method.text_length, backbone.text.width)
        if tree["method"].get("coupling")
        else None
    )
    return build_model(backbone, settings, TEXTS, hard)


@pytest.mark.parametrize("method", ["ga2", "ivlp", "linear-probe"])
@pytest.mark.parametrize("member", MEMBERS)
def test_two_updates_lower_the_loss(member: str, method: str, folders: Callable[..., Any]) -> None:
    folder, _ = folders(member)
    lengths = {"text_length": 3, "vision_length": 2}
    if method == "linear-probe":
        lengths = {}
    if member in CONVOLUTIONAL and lengths:
        with pytest.raises(UserError, match="takes no vision prompts: its vision tower is convolutional"):
            make(folder, method, method=lengths)
        lengths["vision_length"] = 0
    model = make(folder, method, method={**lengths, "coupling_dropout": 0.0})
    video, labels = pixels_of(model.backbone, 4).unflatten(0, (2, 2)), torch.tensor([0, 2])
    parameters = list(model.trainable_parameters().values())
    values = []
    for _ in range(3):
        model.zero_grad()
        loss = model.losses(video, labels).total
        loss.backward()
        values.append(float(loss.detach()))
        rate = 0.01 * values[0] / sum(float(p.grad.square().sum()) for p in parameters if p.grad is not None)
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
    # Each step lowers the loss by 0.01 of its first value, as far as the loss is linear there.
    assert values == pytest.approx([values[0], 0.99 * values[0], 0.98 * values[0]], rel=2e-3)
    reached = {name.split(".")[1] for name, p in model.trainable_parameters().items() if p.grad is not None}
    assert reached == set(model.parts)


def add_lora(blocks: Sequence[Any], changes: Any) -> None:
    """Add 2 · B A, for an alpha of 4 and a rank of 2, to the weights of a model's own layers, by their names there."""
    rows = {
        "q": ("attn.in_proj_weight", "attn.qkv.weight", "attn.q_proj.weight"),
        "k": ("attn.in_proj_weight", "attn.qkv.weight", "attn.k_proj.weight"),
        "v": ("attn.in_proj_weight", "attn.qkv.weight", "attn.v_proj.weight"),
        "o": ("attn.out_proj.weight", "attn.proj.weight"),
        "c_fc": ("mlp.c_fc.weight", "mlp.fc1.weight", "mlp.fc1_g.weight"),
        "c_proj": ("mlp.c_proj.weight", "mlp.fc2.weight"),
    }
    for number, block in enumerate(blocks, start=1):
        weights = dict(block.named_parameters())
        for name, change in changes[str(number)].items():
            (key,) = set(rows[name]) & set(weights)
            delta, weight = 2 * change.b @ change.a, weights[key].data
            if len(weight) == 3 * len(delta):  # packed: queries, keys, values
                weight = weight.chunk(3)["qkv".index(name)]
            if key == "mlp.fc1_g.weight":
                delta, gated = delta.chunk(2)
                weights["mlp.fc1_x.weight"].data.add_(gated)
            weight.add_(delta)


@pytest.mark.parametrize("member", TRANSFORMERS)
def test_lora_changes_every_block_and_folds(member: str, folders: Callable[..., Any]) -> None:
    from ga2clip_export.towers import FoldedTextEncoder, FoldedVideoEncoder

    folder, reference = folders(member)
    lora = {"rank": 2, "alpha": 4.0, "weights": ["q", "k", "v", "o", "mlp"]}
    model = make(folder, "ivlp", method={"text_length": 2, "vision_length": 2}, parts={"lora": lora}).eval()
    frames = torch.randint(0, 256, (1, 2, *[model.preprocess.size] * 2, 3), dtype=torch.uint8)
    pixels = torch.from_numpy(model.preprocess.normalise(frames.numpy()))
    with torch.no_grad():
        before = model.encode_video(pixels), model.encode_classes(TEXTS)
        for name, parameter in model.named_parameters():
            if name.endswith(".b"):
                parameter.normal_(std=0.1)
        after = model.encode_video(pixels), model.encode_classes(TEXTS)
        folded = FoldedVideoEncoder(model)(frames)[1]
        ids = model.class_tokens(TEXTS)
        start = torch.zeros(len(ids), FoldedTextEncoder(model).behind_prompt, dtype=torch.int64)
        texts = FoldedTextEncoder(model)(torch.cat([start, ids], dim=1))
    for ours, plain, changed in zip((folded, texts), before, after, strict=True):
        torch.testing.assert_close(ours, changed, atol=2e-4, rtol=1e-4)
        assert (changed - plain).norm() > 1e-2 * plain.norm()
    changed, prompts, backbone = copy.deepcopy(reference), model.prompts(), model.backbone
    inner = getattr(changed, "text", changed)
    trunk = getattr(changed.visual, "trunk", None)
    with torch.no_grad():
        add_lora(
            trunk.blocks if trunk else changed.visual.transformer.resblocks, model.parts.lora.towers["vision"]
        )
        add_lora(inner.transformer.resblocks, model.parts.lora.towers["text"])
        frames = plain_vision(changed.visual, pixels[0], prompts.vision)
        texts = plain_text(changed, backbone, prompts.text)
        found = backbone.text(backbone.ids(TEXTS, 2), prompts.text, prompts.text_weights)
    torch.testing.assert_close(model.encode_frames(pixels[:1], prompts)[0], frames, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found, texts, atol=2e-5, rtol=1e-4)
    model.losses(pixels, torch.tensor([1])).total.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora" in n)


@pytest.mark.parametrize("member", TRANSFORMERS)
@torch.no_grad()
def test_a_frame_between_equal_ones_has_the_features_that_it_has_alone(
    member: str, folders: Callable[..., Any]
) -> None:
    """Three times the same keys and values, rotary positions included, attend as they do once.

    The zeros beside the first and the last frame reach one frame further with each block.
    """
    folder, _ = folders(member)
    model = make(folder, "zero-shot", method={"frame_attention": "neighbours"}).eval()
    depth = model.backbone.vision.depth
    frame = pixels_of(model.backbone, 1)
    found = model.encode_frames(frame.expand(2 * depth + 1, -1, -1, -1)[None])[0]
    alone = model.backbone.vision(frame)[0]
    torch.testing.assert_close(found[depth], alone, atol=2e-5, rtol=1e-4)
    assert (found[0] - alone).norm() > 1e-3 * alone.norm()
    torch.testing.assert_close(found, found.flip(0), atol=2e-5, rtol=1e-4)  # zeros at both ends alike


@pytest.mark.parametrize("member", CONVOLUTIONAL)
def test_what_would_enter_a_convolutional_tower_is_refused(member: str, folders: Callable[..., Any]) -> None:
    folder, _ = folders(member)
    none = {"vision_length": 0, "text_length": 2}
    with pytest.raises(UserError, match="no LoRA there: its vision tower is convolutional"):
        make(folder, "coop", method=none, parts={"lora": {}})
    with pytest.raises(
        UserError, match="takes no attention to neighbouring frames: its vision tower is conv"
    ) as caught:
        make(folder, "coop", method=none | {"frame_attention": "neighbours"})
    assert "method.pooling" in caught.value.hint
    with pytest.raises(UserError, match="takes no maps"):
        make(folder, "maple", method={"text_length": 2, "vision_length": 2})
    model = make(folder, "coop", method={**none, "tune": "both"}, parts={"lora": {"towers": ["text"]}})
    video = pixels_of(model.backbone, 2)[None]
    model.losses(video, torch.tensor([0])).total.backward()
    trained = [
        p.grad for n, p in model.named_parameters() if n.startswith("backbone.vision") and p.requires_grad
    ]
    assert len(trained) > 10
    assert all(gradient is not None for gradient in trained)
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("member", [name for name in MEMBERS if name != "resnet"])
def test_frames_of_another_size(member: str, folders: Callable[..., Any]) -> None:
    """Positions as open_clip interpolates them when it loads weights for another size, and timm its own."""
    folder, reference = folders(member)
    size = 96 if member in CONVOLUTIONAL else 64
    backbone, pixels = load(folder, image_size=size), torch.randn(2, 3, size, size)
    assert backbone.preprocess.size == size
    if isinstance(reference.visual, TimmModel):
        larger = copy.deepcopy(reference)
        if member in TRANSFORMERS:
            larger.visual.trunk.set_input_size(img_size=(size, size))
    else:
        config = copy.deepcopy(MEMBERS[member][0])
        config["vision_cfg"]["image_size"] = size
        larger, state = open_clip.CLIP(**config).eval(), dict(reference.state_dict())
        resize_pos_embed(state, larger)
        larger.load_state_dict(state)
    prompts = [torch.randn(2, backbone.vision.width)] if member in TRANSFORMERS else []
    with torch.no_grad():
        torch.testing.assert_close(backbone.vision(pixels), larger.encode_image(pixels), atol=1e-5, rtol=1e-5)
        assert backbone.vision(pixels, prompts).isfinite().all()
    with pytest.raises(UserError, match="is no multiple of the backbone's"):
        load(folder, image_size=size + 1)


def test_a_resnet_keeps_the_size_of_its_attention_pooling(folders: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="takes frames of the size it was trained with alone"):
        load(folders("resnet")[0], image_size=96)


def test_a_file_of_another_kind_must_say_what_it_is(folders: Callable[..., Any], tmp_path: Path) -> None:
    """SigLIP's tensors alone, then with the name, then with a name that contradicts the config beside them."""
    folder, _ = folders("siglip")
    silent = tmp_path / "siglip.safetensors"
    silent.symlink_to(folder / "open_clip_model.safetensors")
    with pytest.raises(UserError, match="not a ViT CLIP in OpenAI's naming") as caught:
        load(silent)
    assert "--backbone NAME" in str(caught.value.hint)
    with pytest.raises(UserError, match=r"says embed_dim = 32; open_clip's EVA02-B-16 says 512"):
        load(folder, name="EVA02-B-16")
    with pytest.raises(UserError, match=r"lacks tokenizer.json"):
        load(silent, name="ViT-B-16-SigLIP")
    with pytest.raises(UserError, match=r"holds .* numbers, and the model of open_clip's EVA02-B-16 has"):
        load(silent, name="EVA02-B-16")
    with pytest.raises(UserError, match=r"nllb-clip-base: not supported: its text tower is facebook/nllb"):
        load(silent, name="nllb-clip-base")
    config = tmp_path / "model.json"
    config.write_text((folder / "open_clip_config.json").read_text())
    assert load(silent, name=str(config)).preprocess == load(folder).preprocess


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "eva02_enormous_patch14_clip_224",
            ("EvaBlockPostNorm", "Mlp"),
        ),  # EVA02-E, the only one with such blocks
        ("eva02_tiny_patch14_224", ("EvaBlock", "GluMlp")),  # not of a published CLIP
    ],
)
def test_other_blocks_of_eva(name: str, kinds: tuple[str, str], tmp_path: Path) -> None:
    config, pixels = copy.deepcopy(MEMBERS["eva02"])
    config["vision_cfg"]["timm_model_name"] = name
    with small_timm(), patch.dict(MEMBERS, {"other": (config, pixels)}):
        reference = write_member("other", tmp_path)
        lora = {"lora": {"rank": 2, "alpha": 4.0}}
        model = make(tmp_path, "ivlp", method={"text_length": 2, "vision_length": 2}, parts=lora).eval()
    block = reference.visual.trunk.blocks[0]
    assert (type(block).__name__, type(block.mlp).__name__) == kinds
    vision, frames = model.backbone.vision, pixels_of(model.backbone)
    prompts = [0.3 * torch.randn(3, vision.width) for _ in range(2)]
    with torch.no_grad():
        expected = reference.encode_image(frames)
        torch.testing.assert_close(vision(frames), expected, atol=1e-5, rtol=1e-5)
        expected = plain_vision(reference.visual, frames, prompts)
        torch.testing.assert_close(vision(frames, prompts), expected, atol=1e-5, rtol=1e-5)
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
        changes = model.prompts().vision_weights
        changed = vision(frames, weights=changes)
        stored = with_weights(vision, changes)(frames)
    torch.testing.assert_close(changed, stored, atol=1e-5, rtol=1e-5)
    assert (changed - vision(frames)).norm() > 1e-3 * changed.norm()


@pytest.mark.parametrize(
    ("member", "section", "change", "words"),
    [
        (
            "eva02",
            "vision_cfg",
            {"image_size": [32, 48]},
            "image_size is not the number of pixels of a square",
        ),
        ("eva02", "vision_cfg", {"timm_model_name": 3}, "timm_model_name is not a name"),
        (
            "eva02",
            "vision_cfg",
            {"image_size": 48},
            "image_size = 48 is said of a vision tower for 32 pixels",
        ),
        ("clipa", "vision_cfg", {"pool_type": "none"}, "not supported: its vision tower is pooled by 'none'"),
        ("worldwide", "text_cfg", {"eos_id": 3}, "reads a text's feature at the token 3"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(
    member: str, section: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with small_timm():
        write_member(member, tmp_path)
        path = tmp_path / "open_clip_config.json"
        content = json.loads(path.read_text())
        content["model_cfg"][section].update(change)
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=words):
            load(tmp_path)
