"""ViFi-CLIP's checkpoints, written small: what they compute by open_clip's own towers, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.interop import import_run, load_published
from ga2clip.model.weights import read_weights
from ga2clip.run import load_run
from ga2clip.settings import Settings
from tests import layouts
from tests.vifi_files import write_vifi

NAMES = ["archery", "apply_eye_makeup", "playing the guitar"]
Make = Callable[..., Path]


@pytest.fixture
def tuned(clip_weights: dict[str, Any]) -> open_clip.CLIP:
    """The random CLIP of these tests after a small step of training in every weight but the token embedding."""
    clip = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 64, "layers": 3},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
        quick_gelu=True,
    )
    clip.load_state_dict(clip_weights)
    with torch.no_grad():
        for name, parameter in clip.named_parameters():
            if name != "token_embedding.weight":
                parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    return clip.eval()


@torch.no_grad()
def texts(clip: open_clip.CLIP, *words: str) -> Tensor:
    return clip.encode_text(open_clip.tokenize(list(words)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("template", ["a photo of a {}.", "{}", "a video of a person doing {}, slowly!"])
def test_a_fully_tuned_checkpoint_has_its_own_template_and_underscores(
    template: str, zipped: bool, tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, template=template, underscores=True, zipped=zipped)
    model = load_published(path, clip_file, classes=NAMES)
    expected = texts(tuned, *(template.format(name) for name in NAMES))
    torch.testing.assert_close(model.encode_classes(NAMES), expected, rtol=1e-4, atol=1e-5)
    frames = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        model.encode_frames(frames[None])[0], tuned.encode_image(frames), rtol=1e-4, atol=1e-5
    )
    assert model.scale.item() == pytest.approx(tuned.logit_scale.exp().item())
    assert model.class_template == template.replace("{}", "{_}")


def test_names_whose_underscores_became_blanks_are_found_too(
    tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    model = load_published(write_vifi(tmp_path / "best.pth", tuned, NAMES), clip_file, classes=NAMES)
    assert model.class_template == "a photo of a {}."


@pytest.mark.parametrize("behind", ["{}.", "of a {}."])
def test_what_stands_behind_a_learned_prompt_is_found(
    behind: str, tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=2, template=behind)
    model = load_published(path, clip_file, classes=NAMES)
    spoken = [name.replace("_", " ") for name in NAMES]
    expected = texts(tuned, *(f"X X {behind.format(name)}" for name in spoken))
    torch.testing.assert_close(model.encode_classes(NAMES), expected, rtol=1e-4, atol=1e-5)
    assert model.class_template == behind


@pytest.mark.parametrize("prompts", [0, 3])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([NAMES[1], NAMES[0], NAMES[2]], r"class 1 of the list, .* reads '.*archery\.'"),
        ([NAMES[0], NAMES[1], "playing a guitar"], r"class 3 of the list.* reads '.*playing the guitar\.'"),
        (["Archer", *NAMES[1:]], r"class 1 of the list, 'Archer'"),
        ([f"{NAMES[0]} {NAMES[0]}", *NAMES[1:]], "class 1 of the list"),
        (NAMES[:2], "3 classes, the list has 2"),
        (["one", "two", "three"], r"class 1 of the list, 'one'.*archery"),
    ],
)
def test_names_that_are_not_the_checkpoints_are_refused(
    names: list[str], message: str, prompts: int, tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=prompts)
    with pytest.raises(UserError, match=message):
        load_published(path, clip_file, classes=names)


def test_only_the_checkpoints_template_is_taken(
    tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES)
    model = load_published(path, clip_file, classes=NAMES, template="A photo of a {}.")
    assert model.class_template == "A photo of a {}."
    with pytest.raises(UserError, match=r"but with 'a photo of a \{\}\.'"):
        load_published(path, clip_file, classes=NAMES, template="a photo of {}.")


def change(path: Path, edit: Callable[[dict[str, Tensor]], dict[str, Tensor]], **beside: Any) -> None:
    """Write a checkpoint again with edited weights (names without `module.`)."""
    weights = {name.removeprefix("module."): value for name, value in read_weights(path)["model"].items()}
    torch.save({"model": edit(weights), **beside}, path)


def without(*starts: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: {name: value for name, value in weights.items() if not name.startswith(starts)}


@pytest.mark.parametrize("words", [{}, {"template": "a photo of a {}."}], ids=["", "template"])
@pytest.mark.parametrize(
    ("prompts", "missing"),
    [
        (3, ("prompt_learner.token_suffix",)),
        (3, ("prompt_learner.token_prefix", "prompt_learner.token_suffix")),
        (0, ("prompt_learner.complete_text_embeddings",)),
    ],
)
def test_names_that_nothing_can_check_are_refused(
    prompts: int, missing: tuple[str, ...], words: Any, tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=prompts)
    change(path, without(*missing))
    for names in (NAMES, NAMES[::-1]):
        with pytest.raises(UserError, match=rf"does not hold the texts .*missing: {', '.join(missing)}\)"):
            load_published(path, clip_file, classes=names, **words)


@pytest.mark.parametrize("prompts", [0, 3])
@pytest.mark.parametrize(
    "missing",
    [
        "image_encoder.transformer.resblocks.0.mlp.c_fc.weight",
        "image_encoder.transformer.resblocks.2.",
        "image_encoder.",
        "text_encoder.transformer.",
        "text_encoder.positional_embedding",
        "logit_scale",
    ],
)
def test_only_the_token_embedding_comes_from_the_clip(
    missing: str, prompts: int, tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=prompts)
    change(path, without(missing))
    with pytest.raises(UserError, match=f"is incomplete; missing of its backbone: {missing}"):
        load_published(path, clip_file, classes=NAMES)


def test_prompts_that_its_settings_name_must_be_there(
    tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    deep = {
        "image_encoder.VPT": torch.randn(2, 64),
        "image_encoder.transformer.resblocks.1.VPT_shallow": torch.randn(2, 64),
        "text_encoder.transformer.resblocks.1.VPT_shallow": torch.randn(3, 64),
    }
    said = {"PROMPT_MODEL": True, "PROMPT_DEPTH_VISION": 2, "PROMPT_DEPTH_TEXT": 2}
    config = {"TRAINER": {"ViFi_CLIP": said}}
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=3)
    change(path, lambda weights: weights | deep, config=config)
    method = load_published(path, clip_file, classes=NAMES).settings.method
    assert (method.vision_depth, method.text_depth) == (2, 2)
    for missing, tower in ((list(deep)[1], "image"), (list(deep)[2], "text")):
        change(path, lambda weights, gone=missing: without(gone)(weights | deep), config=config)
        with pytest.raises(UserError, match=f"missing: {tower} prompts of 1 of the 2 blocks"):
            load_published(path, clip_file, classes=NAMES)


def test_numbers_that_are_not_finite_are_refused(
    tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=3)
    change(path, lambda weights: weights | {"prompt_learner.ctx": torch.full((3, 64), float("nan"))})
    with pytest.raises(UserError, match=r"not finite .* in prompt_learner\.ctx"):
        load_published(path, clip_file, classes=NAMES)


@pytest.mark.parametrize("prompts", [0, 3])
@pytest.mark.parametrize("rounded", ["checkpoint", "clip", "both"])
def test_bfloat16_rounds_the_texts_and_keeps_them_the_same(
    rounded: str, prompts: int, tuned: open_clip.CLIP, clip_weights: dict[str, Any], tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=prompts, template="a photo of a {}.")
    if rounded != "clip":
        change(path, lambda weights: {name: value.bfloat16() for name, value in weights.items()})
    dtype = torch.float32 if rounded == "checkpoint" else torch.bfloat16
    torch.save({name: value.to(dtype) for name, value in clip_weights.items()}, tmp_path / "clip.pt")
    model = load_published(path, tmp_path / "clip.pt", classes=NAMES)
    assert model.class_template == "a photo of a {}."
    with pytest.raises(UserError, match="is not what"):
        load_published(path, tmp_path / "clip.pt", classes=NAMES[::-1])


def test_a_token_embedding_beyond_rounding_is_called_that(
    tuned: open_clip.CLIP, clip_weights: dict[str, Any], tmp_path: Path
) -> None:
    """The words read right and are yet not the CLIP's: the CLIP is another, not the name."""
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES)
    embedding = clip_weights["token_embedding.weight"] * 1.05
    embedding[49406] = clip_weights["token_embedding.weight"][49406]  # the start token as it was
    torch.save({**clip_weights, "token_embedding.weight": embedding}, tmp_path / "clip.pt")
    with pytest.raises(UserError, match="another token embedding"):
        load_published(path, tmp_path / "clip.pt", classes=NAMES)


def test_a_clip_of_other_shapes_is_called_another_clip(tuned: open_clip.CLIP, tmp_path: Path) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES)
    for sizes in (layouts.PLAIN, layouts.WIDE_HEADS):
        torch.save(layouts.make_clip(sizes, True).state_dict(), tmp_path / "other.pt")
        with pytest.raises(UserError, match=r"other\.pt is not the CLIP of .*best\.pth") as caught:
            load_published(path, tmp_path / "other.pt", classes=NAMES)
        assert "--clip" in str(caught.value.hint)
    torch.save({"visual.proj": torch.zeros(4, 4)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt has no token embedding"):
        load_published(path, tmp_path / "other.pt", classes=NAMES)


@pytest.mark.parametrize("write", [layouts.ga2_start, layouts.state_dict, layouts.ga2_vision_tower])
def test_a_backbone_is_nothing_to_import(write: layouts.Writer, clip_file: Path, tmp_path: Path) -> None:
    path = write(tmp_path, layouts.make_clip(layouts.PLAIN, True), {})
    with pytest.raises(UserError, match="is a CLIP to start from") as caught:
        load_published(path, clip_file, classes=NAMES)
    assert f"--pretrained {path}" in str(caught.value.hint)
    with pytest.raises(UserError, match="is a folder, not a weights file") as caught:
        load_published(tmp_path, clip_file, classes=NAMES)
    assert path.name in str(caught.value.hint)


def test_another_clips_token_embedding_is_refused(
    tuned: open_clip.CLIP, clip_weights: dict[str, Any], tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES)
    other = {**clip_weights, "token_embedding.weight": clip_weights["token_embedding.weight"].flip(0)}
    torch.save(other, tmp_path / "clip.pt")
    with pytest.raises(UserError, match="another token embedding"):
        load_published(path, tmp_path / "clip.pt", classes=NAMES)


def test_the_clip_may_lie_in_any_container(
    tuned: open_clip.CLIP, clip_weights: dict[str, Any], tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES, prompts=2, template="{}.")
    state = {f"module.{name}": value for name, value in clip_weights.items()}
    torch.save({"epoch": 1, "name": "run", "state_dict": state, "optimizer": {}}, tmp_path / "epoch_1.pt")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    import_run(path, tmp_path / "epoch_1.pt", None, tmp_path / "names.txt", tmp_path / "run")
    spoken = [name.replace("_", " ") for name in NAMES]
    expected = texts(tuned, *(f"X X {name}." for name in spoken))
    found = load_run(tmp_path / "run").model().encode_classes(NAMES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_texts_are_the_same_texts(
    tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    path = write_vifi(tmp_path / "best.pth", tuned.half(), NAMES)
    assert load_published(path, clip_file, classes=NAMES).class_template == "a photo of a {}."


class Header(nn.Module):
    """A temporal header as Text4Vis and GA2-CLIP have it, of torch's own layers: 77 positions, blocks of CLIP."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(77, width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(self._block(width, heads) for _ in range(layers))

    def _block(self, width: int, heads: int) -> nn.Module:
        block = nn.Module()
        block.attn = nn.MultiheadAttention(width, heads)
        block.ln_1, block.ln_2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        block.mlp = nn.Module()
        block.mlp.c_fc, block.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        return block

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, D) → (B, D)."""
        x = (frames + self.frame_position_embeddings(torch.arange(frames.shape[1]))).transpose(0, 1)
        for block in self.transformer.resblocks:
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False)[0]
            hidden = block.mlp.c_fc(block.ln_2(x))
            x = x + block.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return (frames + x.transpose(0, 1)).mean(dim=1)


def write_header(path: Path, tuned: open_clip.CLIP, header: dict[str, torch.Tensor]) -> Path:
    content = read_weights(write_vifi(path.with_suffix(".pth"), tuned, NAMES))
    torch.save({"model_state_dict": content["model"], "fusion_model_state_dict": header}, path)
    return path


@pytest.mark.parametrize("frames", [4, 16])
def test_a_temporal_header_pools_as_published(
    tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path, frames: int
) -> None:
    torch.manual_seed(2)
    header = Header(32, 1, 6).eval()
    path = write_header(tmp_path / "last.pt", tuned, header.state_dict())
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    settings = Settings().updated({"data": {"dataset": "", "frames": frames}}, "test")
    import_run(path, clip_file, None, tmp_path / "names.txt", tmp_path / "run", settings)
    model = load_run(tmp_path / "run").model()
    assert (model.settings.method.pooling, model.settings.method.pooling_layers) == ("transformer", 6)
    features = torch.randn(2, frames, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.pool(features), header(features), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(model.pool(features), features.mean(dim=1), atol=0.1)


def test_damaged_temporal_headers_are_refused(tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path) -> None:
    header = Header(32, 1, 1).state_dict()
    positions = {name: value for name, value in header.items() if name.startswith("frame_")}
    blocks = {name: value for name, value in header.items() if name not in positions}
    for tensors, said in (
        (positions, "missing: the blocks of its temporal header"),
        (blocks, "missing: the positions of its temporal header"),
        (dict(list(header.items())[:-1]), "missing: parts.pooling_transformer.blocks.0"),
        ({**header, "lstm.weight": torch.zeros(2)}, "no known layout has: fusion_model.lstm.weight"),
        (
            {**positions, **blocks, "frame_position_embeddings.weight": torch.full((77, 32), torch.nan)},
            "not finite",
        ),
        ({**blocks, "frame_position_embeddings.weight": torch.zeros(4, 32)}, "positions for 4 frames, not 8"),
    ):
        with pytest.raises(UserError, match=said):
            load_published(write_header(tmp_path / "x.pt", tuned, tensors), clip_file, classes=NAMES)
    mean = write_header(tmp_path / "mean.pt", tuned, {})
    assert load_published(mean, clip_file, classes=NAMES).settings.method.pooling == "mean"


def test_the_smallest_step_of_training_is_kept_in_the_run(
    clip_weights: dict[str, Any], tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path
) -> None:
    tuned.load_state_dict(clip_weights)
    with torch.no_grad():
        tuned.visual.proj.add_(1e-6)
    path = write_vifi(tmp_path / "best.pth", tuned, NAMES)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    import_run(path, clip_file, None, tmp_path / "names.txt", tmp_path / "run")
    model = load_run(tmp_path / "run").model()
    assert torch.equal(model.backbone.vision.visual.proj, tuned.visual.proj)
    assert (model.class_template, model.classes) == ("a photo of a {}.", NAMES)
