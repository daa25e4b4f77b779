"""Random CLIPs written in the layouts of other people's programs, with what open_clip makes of them.

`write_cases(folder)` writes files, a `manifest.json` and `ID.expected.npz` in the form of the recorded cases, so that
one test reads both.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

TEXTS = ("a video of a person doing archery.", "writing on board")
PLAIN = {"vision": {"width": 128, "layers": 2, "heads": 2}, "text": {"width": 64, "layers": 1, "heads": 1}}
WIDE_HEADS = {
    "vision": {"width": 104, "layers": 1, "heads": 1},
    "text": {"width": 96, "layers": 2, "heads": 3},
}
Sizes = dict[str, dict[str, int]]


def model_config(sizes: Sizes, quick_gelu: bool) -> dict[str, Any]:
    """The model config as open_clip's files have it: `quick_gelu` stands there only when it is true."""
    vision = {"image_size": 32, "patch_size": 16, **sizes["vision"]}
    vision["head_width"] = vision["width"] // vision.pop("heads")
    text = {"context_length": 77, "vocab_size": 49408, **sizes["text"]}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text} | (
        {"quick_gelu": True} if quick_gelu else {}
    )


def make_clip(sizes: Sizes, quick_gelu: bool) -> open_clip.CLIP:
    """A random CLIP whose numbers are exact in half precision."""
    torch.manual_seed(1)
    clip = open_clip.CLIP(**model_config(sizes, quick_gelu)).eval().requires_grad_(False)
    for parameter in clip.parameters():
        parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).half())
    return clip


class _Node(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def as_modules(weights: dict[str, Tensor], resolution: int) -> torch.nn.Module:
    """Nested modules whose state dict has these names, and the numbers that OpenAI's archives have beside them."""
    root = _Node()
    for name, value in weights.items():
        node = root
        *path, last = name.split(".")
        for part in path:
            if not hasattr(node, part):
                node.add_module(part, _Node())
            node = getattr(node, part)
        half = value.half() if value.ndim > 1 and "embedding" not in name else value
        node.register_parameter(last, torch.nn.Parameter(half, requires_grad=False))
    for name, number in (("input_resolution", resolution), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(number))
    return root


def openai_archive(path: Path, clip: open_clip.CLIP, _: dict[str, Any]) -> Path:
    torch.jit.script(as_modules(clip.state_dict(), 32)).save(str(path / "ViT.pt"))
    return path / "ViT.pt"


def state_dict_of_an_archive(path: Path, clip: open_clip.CLIP, _: dict[str, Any]) -> Path:
    torch.save(as_modules(clip.state_dict(), 32).state_dict(), path / "ViT.pth")
    return path / "ViT.pth"


def state_dict(path: Path, clip: open_clip.CLIP, _: dict[str, Any]) -> Path:
    torch.save(clip.state_dict(), path / "clip.pt")
    return path / "clip.pt"


def state_dict_with_config(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    (path / "clip.json").write_text(json.dumps(config))
    return state_dict(path, clip, config)


def hub_folder(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    save_file(clip.half().state_dict(), path / "open_clip_model.safetensors")
    pixels = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "size": [32, 32],
    }
    content = {"model_cfg": config, "preprocess_cfg": pixels}
    (path / "open_clip_config.json").write_text(json.dumps(content))
    return path


def old_hub_folder(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    torch.save(clip.state_dict(), path / "open_clip_pytorch_model.bin")
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return path


def training_checkpoint(path: Path, clip: open_clip.CLIP, _: dict[str, Any]) -> Path:
    state = {f"module.{name}": value for name, value in clip.state_dict().items()}
    optimizer = {
        "state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 1e-3}],
    }
    state["module.attn_mask"] = torch.full((77, 77), float("-inf")).triu(1)
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer}, path / "epoch_3.pt")
    return path / "epoch_3.pt"


def ga2_start(
    path: Path, clip: open_clip.CLIP, _: dict[str, Any], prefix: str = "module.", only: str = ""
) -> Path:
    state = {n: v for n, v in clip.state_dict().items() if n.startswith(only) or n == "logit_scale"}
    content = {
        "epoch": 30,
        "model_state_dict": {prefix + name: value.half() for name, value in state.items()},
        "fusion_model_state_dict": {},
        "optimizer_state_dict": {"state": {}, "param_groups": []},
    }
    torch.save(content, path / "k400-vitb.pt")
    return path / "k400-vitb.pt"


def ga2_start_without_wrapper(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    return ga2_start(path, clip, config, prefix="")


def ga2_vision_tower(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    save_file(clip.state_dict(), path / "clip.safetensors")
    return ga2_start(path, clip, config, only="visual.")


def transformers_config(config: dict[str, Any]) -> dict[str, Any]:
    """A `CLIPModel`'s `config.json`."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    return {
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "vision_config": {
            "hidden_act": activation,
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "num_hidden_layers": vision["layers"],
            "image_size": 32,
            "patch_size": 16,
        },
        "text_config": {
            "hidden_act": activation,
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_attention_heads": text["heads"],
            "num_hidden_layers": text["layers"],
        },
    }


def transformers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's names and packed projections as transformers' `CLIPModel` has them."""
    pairs = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.": "vision_model.embeddings.patch_embedding.",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.": "vision_model.pre_layrnorm.",
        "visual.ln_post.": "vision_model.post_layernorm.",
        "visual.transformer.resblocks.": "vision_model.encoder.layers.",
        "transformer.resblocks.": "text_model.encoder.layers.",
        "token_embedding.": "text_model.embeddings.token_embedding.",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.": "text_model.final_layer_norm.",
        ".attn.out_proj.": ".self_attn.out_proj.",
        ".ln_1.": ".layer_norm1.",
        ".ln_2.": ".layer_norm2.",
        ".mlp.c_fc.": ".mlp.fc1.",
        ".mlp.c_proj.": ".mlp.fc2.",
    }
    renamed = {}
    for ours, value in state.items():
        name = ours
        for old, new in pairs.items():
            if name.startswith(old) or (old.startswith(".") and old in name):
                name = name.replace(old, new, 1)
        if ours in ("visual.proj", "text_projection"):
            name = {"visual.proj": "visual_projection", "text_projection": "text_projection"}[
                ours
            ] + ".weight"
            renamed[name] = value.T.contiguous()
        elif ".attn.in_proj_" in name:
            block, kind = name.split(".attn.in_proj_")
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{block}.self_attn.{letter}_proj.{kind}"] = part.contiguous()
        else:
            renamed[name] = value
    return renamed


def transformers_folder(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    positions = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    save_file(transformers_names(clip.half().state_dict()) | positions, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(transformers_config(config)))
    return path


def transformers_shards(path: Path, clip: open_clip.CLIP, config: dict[str, Any]) -> Path:
    where: dict[str, str] = {}
    for name, value in transformers_names(clip.state_dict()).items():
        file = f"pytorch_model-0000{1 + name.startswith('vision')}-of-00002.bin"
        where[name] = file
        shard = torch.load(path / file) if (path / file).exists() else {}
        torch.save({**shard, name: value}, path / file)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    (path / "config.json").write_text(json.dumps(transformers_config(config)))
    return path


Writer = Callable[[Path, open_clip.CLIP, dict[str, Any]], Path]
# writer, sizes, QuickGELU
CASES: tuple[tuple[Writer, Sizes, bool], ...] = (
    (openai_archive, PLAIN, True),
    (state_dict_of_an_archive, PLAIN, True),
    (state_dict, PLAIN, True),
    (state_dict_with_config, WIDE_HEADS, True),
    (hub_folder, WIDE_HEADS, False),
    (old_hub_folder, PLAIN, True),
    (training_checkpoint, PLAIN, False),
    (ga2_start, PLAIN, True),
    (ga2_start_without_wrapper, PLAIN, True),
    (ga2_vision_tower, PLAIN, True),
    (transformers_folder, WIDE_HEADS, False),
    (transformers_shards, PLAIN, True),
)
# What a user must add to the file: settings of the backbone.
_MISSING = {state_dict: ["name"], training_checkpoint: ["name"], ga2_vision_tower: ["name", "text_from"]}
NAMES = tuple(writer.__name__ for writer, _, _ in CASES)


def write_case(folder: Path, name: str) -> dict[str, Any]:
    """Write one case into `folder/NAME`; returns its entry of a manifest, whose paths start at `folder`."""
    from ga2clip.tokenizer import ClipTokenizer

    writer, sizes, quick_gelu = CASES[NAMES.index(name)]
    (folder / name).mkdir(parents=True)
    clip = make_clip(sizes, quick_gelu)
    pixels, tokens = (
        torch.randn(2, 3, 32, 32),
        torch.from_numpy(ClipTokenizer.from_open_clip().tokens(TEXTS, length=77)),
    )
    fields = {
        "input/pixels": pixels,
        "input/tokens": tokens,
        "out/image_features": clip.encode_image(pixels),
        "out/text_features": clip.encode_text(tokens),
        "out/logit_scale": clip.logit_scale,
    }
    np.savez(folder / name / "expected.npz", **{key: value.numpy() for key, value in fields.items()})
    config = model_config(sizes, quick_gelu)
    file = writer(folder / name, clip, config)
    return {
        "id": name,
        "kind": "clip-vision-only" if writer is ga2_vision_tower else "clip",
        "file": str(file.relative_to(folder)),
        "needs": [f"{name}/clip.safetensors"] if writer is ga2_vision_tower else [],
        "missing": _MISSING.get(writer, []),
        "quick_gelu": quick_gelu,
        "embed_dim": config["embed_dim"],
        "vision": {"image_size": 32, "patch_size": 16, **sizes["vision"]},
        "text": sizes["text"],
        "expected": f"{name}/expected.npz",
    }
