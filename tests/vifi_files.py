"""Small checkpoints as ViFi-CLIP's training writes them, settings included."""

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import torch
from torch import Tensor


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
