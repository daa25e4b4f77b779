"""Small checkpoints as ViFi-CLIP's training writes them, settings included."""

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize


def write_vifi(
    path: Path,
    clip: open_clip.CLIP,
    names: Sequence[str],
    *,
    prompts: int = 0,
    template: str = "a photo of a {}.",
    underscores: bool = False,
    zipped: bool = True,
) -> Path:
    """The checkpoint of a CLIP. prompts: 0: fully fine-tuned; n: a text prompt that is the letter X n times, so that
    the class features are those of the CLIP's own text tower. template: with prompts what stands behind them.
    """
    texts = ["X " * prompts + template.format(n if underscores else n.replace("_", " ")) for n in names]
    with torch.no_grad():
        embedded = clip.token_embedding(open_clip.tokenize(texts))
    state = {f"prompt_learner.{key}": value for key, value in _learner(embedded, prompts).items()}
    for name, value in clip.state_dict().items():
        if name.startswith("visual."):
            state[name.replace("visual.", "image_encoder.", 1)] = value
        elif name == "logit_scale":
            state[name] = value
        elif name not in ("token_embedding.weight", "attn_mask"):
            state[f"text_encoder.{name}"] = value
    module = types.ModuleType("yacs.config")
    content = {
        "model": {f"module.{name}": value for name, value in state.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 8e-6, "params": [0]}]},
        "max_accuracy": 61.5,
        "epoch": 9,
        "config": _cfg_node(module),
    }
    with mock.patch.dict(sys.modules, {"yacs": types.ModuleType("yacs"), "yacs.config": module}):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def _learner(embedded: Tensor, prompts: int) -> dict[str, Tensor]:
    if not prompts:
        return {"complete_text_embeddings": embedded}
    return {
        "ctx": embedded[0, 1 : 1 + prompts].clone(),
        "token_prefix": embedded[:, :1],
        "token_suffix": embedded[:, 1 + prompts :],
    }


def _cfg_node(module: Any) -> object:
    """yacs' CfgNode as a pickle has it, without that package."""
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    config = module.CfgNode({"DATA": module.CfgNode({"NUM_FRAMES": 16}), "OUTPUT": ""})
    config.__dict__.update({"__immutable__": True, "__deprecated_keys__": set(), "__renamed_keys__": {}})
    return config


def write_case(folder: Path, kind: str) -> dict[str, Any]:
    """A checkpoint in the form of the recorded cases: its manifest entry; the numbers are open_clip's own.

    kind: `vifi-full` (tuned), or `vifi-vl` with a text prompt of three letters X and the CLIP as it was.
    """
    torch.manual_seed(2)
    full = kind == "vifi-full"
    clip = open_clip.CLIP(
        embed_dim=24,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 64, "layers": 2},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
        quick_gelu=True,
    )
    clip.eval().requires_grad_(False)
    save_file(clip.half().state_dict(), folder / "clip.safetensors")
    clip.float()
    if full:
        for name, parameter in clip.named_parameters():
            if name != "token_embedding.weight":
                parameter.add_(torch.randn_like(parameter), alpha=0.01)
    names, prompts = ["archery", "apply_eye_makeup", "yo yo"], 0 if full else 3
    template = "a video of a person doing {}." if full else "{}."
    write_vifi(folder / "best.pth", clip, names, prompts=prompts, template=template, underscores=full)
    texts = [template.format(name if full else name.replace("_", " ")) for name in names]
    texts = ["X " * prompts + text for text in texts]
    video = torch.randn(2, 3, 3, 16, 16)
    frames = clip.encode_image(video.flatten(0, 1)).unflatten(0, (2, 3))
    classes = clip.encode_text(open_clip.tokenize(texts))
    cosine = normalize(frames.mean(dim=1), dim=-1) @ normalize(classes, dim=-1).T
    recorded = {
        "input/video": video,
        "input/class_tokens": open_clip.tokenize(texts),
        "out/frame_features": frames,
        "out/video_features": frames.mean(dim=1),
        "out/class_features": classes,
        "out/logits": clip.logit_scale.exp() * cosine,
        "out/logit_scale": clip.logit_scale,
    }
    np.savez(folder / "expected.npz", **{name: value.numpy() for name, value in recorded.items()})
    return {
        "file": "best.pth",
        "needs": ["clip.safetensors"],
        "expected": "expected.npz",
        "classes": names,
        "class_texts": texts,
        "tuned_backbone": full,
        "n_ctx_text": prompts,
        "n_ctx_vision": 0,
        "depth_text": min(prompts, 1),
        "depth_vision": 0,
    }
