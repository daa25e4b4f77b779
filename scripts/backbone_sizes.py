"""Counts the parameters and operations of open_clip's architectures; writes ga2clip/assets/backbones.json.

Run it after an update of open_clip: python scripts/backbone_sizes.py (minutes; nothing is allocated, it counts on
torch's meta device). `ga2clip backbones` reads the file, because counting takes seconds for each architecture.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import _build_text_tower, _build_vision_tower
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ga2clip.model.load_backbone import BUILTIN, load_backbone
from ga2clip.settings import BackboneSettings

FILE = Path(__file__).resolve().parents[1] / "ga2clip" / "assets" / "backbones.json"


def sizes(name: str) -> dict[str, Any]:
    """Parameters of both towers, and floating-point operations for one frame (a multiply-add is two).

    Matrix products, convolutions and attention are counted. A text tower of transformers is not built: None.
    """
    config = open_clip.get_model_config(name)
    quick = config.get("quick_gelu", False)
    side = config["vision_cfg"].get("image_size", 224)
    with torch.device("meta"):
        vision = _build_vision_tower(config["embed_dim"], config["vision_cfg"], quick)
        foreign = "hf_model_name" in config["text_cfg"]
        text = None if foreign else _build_text_tower(config["embed_dim"], config["text_cfg"], quick)
        return {
            "vision": _parameters(vision),
            "text": None if text is None else _parameters(text),
            "flop": _operations(vision, side),
        }


def _builtin() -> dict[str, Any]:
    backbone = load_backbone(BackboneSettings(name=BUILTIN, pretrained="builtin"))
    flop = _operations(backbone.vision, backbone.preprocess.size)
    return {"vision": _parameters(backbone.vision), "text": _parameters(backbone.text), "flop": flop}


def _parameters(tower: nn.Module) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


def _operations(tower: nn.Module, side: int) -> int:
    tower = tower.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower(torch.empty(1, 3, side, side))
    return counter.get_total_flops()


def main() -> None:
    """Write the file."""
    counted = {BUILTIN: _builtin()}
    for name in open_clip.list_models():
        counted[name] = sizes(name)
        print(name, counted[name], flush=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in counted.items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
