"""Published layouts made from random weights: what imports, and what is refused."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.hard_prompt import read_hard_prompt
from ga2clip.interop import import_run, load_published
from ga2clip.model.backbone import Backbone
from ga2clip.run import load_run
from ga2clip.settings import MethodSettings

NAMES = ["riding a horse", "juggling a ball", "diving"]
LENGTH = 3


def published(weights: dict[str, Tensor], backbone: Backbone, context: str = "ctx_VPT") -> dict[str, Tensor]:
    """A state dict as the published GA2-CLIP saves it (ViFi-CLIP's has `ctx` and no mapping layer)."""
    torch.manual_seed(3)
    ids = torch.from_numpy(backbone.tokenizer.tokens([f"X X X {name}." for name in NAMES], length=77))
    embedded = backbone.text.embed(ids)
    state = {
        f"prompt_learner.{context}": torch.randn(LENGTH, 64),
        "prompt_learner.token_prefix": embedded[:, :1],
        "prompt_learner.token_suffix": embedded[:, 1 + LENGTH :],
        "image_encoder.VPT": torch.randn(2, 64),
        "image_encoder.transformer.resblocks.1.VPT_shallow": torch.randn(2, 64),
        "text_encoder.transformer.resblocks.1.VPT_shallow": torch.randn(LENGTH, 64),
    }
    if context == "ctx_VPT":
        state["prompt_learner.proj_b2n_VPT.0.weight"] = torch.randn(64, 128)
        state["prompt_learner.proj_b2n_VPT.0.bias"] = torch.randn(64)
    for name, value in weights.items():
        if name.startswith("visual."):
            state[name.replace("visual.", "image_encoder.", 1)] = value
        elif name == "logit_scale":
            state[name] = value
        elif name != "token_embedding.weight":
            state[f"text_encoder.{name}"] = value
    return state


class Files:
    """Checkpoint, CLIP weights, hard prompt and class list on disk."""

    def __init__(self, folder: Path, state: dict[str, Tensor], weights: dict[str, Tensor], key: str) -> None:
        self.checkpoint, self.clip = folder / "last_model.pt", folder / "clip.pt"
        self.hard, self.classes = folder / "hard.pt", folder / "classes.txt"
        torch.save(
            {"epoch": 3, key: state, "optimizer_state_dict": {"state": {}}, "x": OrderedDict()},
            self.checkpoint,
        )
        torch.save(dict(weights), self.clip)
        self.hard_prompt = torch.randn(LENGTH, 64)
        torch.save({"epoch": 1, "model_state_dict": {"prompt_learner.ctx_VPT": self.hard_prompt}}, self.hard)
        self.classes.write_text("\n".join(NAMES))


@pytest.fixture
def files(tmp_path: Path, clip_weights: dict[str, Any], make_backbone: Callable[[], Backbone]) -> Files:
    return Files(tmp_path, published(clip_weights, make_backbone()), clip_weights, "model_state_dict")


def test_a_run_made_from_a_checkpoint_computes_the_same(files: Files, tmp_path: Path) -> None:
    direct = load_published(files.checkpoint, files.clip, files.hard, NAMES)
    import_run(files.checkpoint, files.clip, files.hard, files.classes, tmp_path / "run")
    again = load_run(tmp_path / "run").model()
    torch.testing.assert_close(again.encode_classes(NAMES), direct.encode_classes(NAMES))
    video = torch.randn(1, 2, 3, 16, 16)
    torch.testing.assert_close(again.encode_video(video), direct.encode_video(video))
    state, prompts = torch.load(files.checkpoint)["model_state_dict"], again.prompts()
    soft, layer = state["prompt_learner.ctx_VPT"], "transformer.resblocks.1.VPT_shallow"
    both = torch.cat([files.hard_prompt, soft], dim=1)  # the published mapping layer: hard prompt first
    weight, bias = (state[f"prompt_learner.proj_b2n_VPT.0.{name}"] for name in ("weight", "bias"))
    mapped = (both @ weight.T + bias).clamp(min=0)
    for found, expected in (
        (prompts.text, [mapped, state[f"text_encoder.{layer}"]]),
        (prompts.vision, [state["image_encoder.VPT"], state[f"image_encoder.{layer}"]]),
    ):
        torch.testing.assert_close(list(found), expected)
    assert not (tmp_path / "run" / "backbone.safetensors").exists()


def test_a_tuned_backbone_is_kept(tmp_path: Path, clip_weights: dict[str, Any], make_backbone: Any) -> None:
    tuned = {n: v + 0.1 if n == "visual.proj" else v for n, v in clip_weights.items()}
    files = Files(tmp_path, published(tuned, make_backbone()), clip_weights, "model_state_dict")
    import_run(files.checkpoint, files.clip, files.hard, files.classes, tmp_path / "run")
    model = load_run(tmp_path / "run").model()
    torch.testing.assert_close(model.backbone.vision.visual.proj.data, tuned["visual.proj"])


def test_vifi_clips_layout(tmp_path: Path, clip_weights: dict[str, Any], make_backbone: Any) -> None:
    state = {f"module.{n}": v for n, v in published(clip_weights, make_backbone(), "ctx").items()}
    files = Files(tmp_path, state, clip_weights, "model")
    model = load_published(files.checkpoint, files.clip, classes=files.classes)
    assert model.settings.method.name == "ivlp"
    own, layer = (
        {name.removeprefix("module."): value for name, value in state.items()},
        "transformer.resblocks.1",
    )
    prompts = model.prompts()
    for found, expected in (
        (prompts.text, [own["prompt_learner.ctx"], own[f"text_encoder.{layer}.VPT_shallow"]]),
        (prompts.vision, [own["image_encoder.VPT"], own[f"image_encoder.{layer}.VPT_shallow"]]),
    ):
        torch.testing.assert_close([prompt.detach() for prompt in found], expected)


def test_without_its_hard_prompt_a_mapped_checkpoint_is_refused(files: Files) -> None:
    with pytest.raises(UserError, match="needs its hard prompt"):
        load_published(files.checkpoint, files.clip, classes=NAMES)


@pytest.mark.parametrize("names", [NAMES[::-1], [*NAMES[:2], "driving"], NAMES[:2]])
def test_other_classes_than_the_checkpoints_are_refused(names: list[str], files: Files) -> None:
    with pytest.raises(UserError, match=r"tuned on"):
        load_published(files.checkpoint, files.clip, files.hard, names)


def test_unknown_tensors_are_listed(tmp_path: Path, clip_weights: dict[str, Any], make_backbone: Any) -> None:
    state = published(clip_weights, make_backbone()) | {"prompt_learner.mystery": torch.zeros(2)}
    files = Files(tmp_path, state, clip_weights, "model_state_dict")
    with pytest.raises(UserError, match=r"prompt_learner\.mystery"):
        load_published(files.checkpoint, files.clip, files.hard, NAMES)


def test_hard_prompts_from_a_file_a_run_and_a_phrase(
    files: Files, tmp_path: Path, make_backbone: Any
) -> None:
    backbone = make_backbone()

    def read(spec: str) -> Tensor:
        settings = MethodSettings(coupling="mapping", hard_prompts=spec, text_length=LENGTH)
        hard = read_hard_prompt(settings, backbone)
        assert hard is not None
        return hard

    torch.testing.assert_close(read(str(files.hard)), files.hard_prompt)
    import_run(files.checkpoint, files.clip, files.hard, files.classes, tmp_path / "run")
    mixed = load_run(tmp_path / "run").model().prompts().text[0]
    torch.testing.assert_close(read(str(tmp_path / "run")), mixed)
    words = backbone.text.embed(torch.tensor(backbone.tokenizer.encode("a video")))
    torch.testing.assert_close(read("a video"), torch.cat([words, words[:1]]))
    with pytest.raises(UserError, match="no hard prompt at"):
        read(str(tmp_path / "missing.pt"))
    with pytest.raises(UserError, match="no built-in hard prompt"):
        read("builtin")
