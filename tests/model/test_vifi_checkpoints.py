"""ViFi-CLIP's checkpoints, written small: what they compute by open_clip's own towers, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.interop import import_run, load_published
from ga2clip.run import load_run
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
    torch.testing.assert_close(model.encode_frames(frames), tuned.encode_image(frames), rtol=1e-4, atol=1e-5)
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
    torch.save({"model": no_texts(path)}, path)
    with pytest.raises(UserError, match="does not contain its class texts") as caught:
        load_published(path, clip_file, classes=NAMES)
    assert "--template" in str(caught.value.hint)


def no_texts(path: Path) -> dict[str, Tensor]:
    from ga2clip.model.weights import read_weights

    weights: dict[str, Tensor] = read_weights(path)["model"]
    return {name: value for name, value in weights.items() if "prompt_learner" not in name}


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


def test_a_temporal_header_is_refused(tuned: open_clip.CLIP, clip_file: Path, tmp_path: Path) -> None:
    from ga2clip.model.weights import read_weights

    content = read_weights(write_vifi(tmp_path / "best.pth", tuned, NAMES))
    saved = {"model_state_dict": content["model"], "fusion_model_state_dict": {}}
    torch.save(saved, tmp_path / "mean.pt")
    assert load_published(tmp_path / "mean.pt", clip_file, classes=NAMES)
    header = {"frame_position_embeddings.weight": torch.zeros(77, 32)}
    torch.save({**saved, "fusion_model_state_dict": header}, tmp_path / "header.pt")
    with pytest.raises(UserError, match=r"temporal header .*frame_position_embeddings\.weight"):
        load_published(tmp_path / "header.pt", clip_file, classes=NAMES)


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
