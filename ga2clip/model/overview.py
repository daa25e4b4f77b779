"""Counts the parts and trainable parameters of each method for the sizes of a backbone, by building them.

`method_table.py` has the rows without torch for the built-in backbone.
"""

import json
from importlib import resources
from typing import Any

import open_clip
import torch

from ga2clip.errors import unknown_name
from ga2clip.model.load_backbone import BUILTIN
from ga2clip.model.methods import METHODS, MethodRow, get_method, method_settings
from ga2clip.model.part import Site, TowerSize, build_parts
from ga2clip.model.term import active_terms
from ga2clip.settings import Settings

EXAMPLE_CLASSES = 100
"""Number of classes for which a linear probe's parameters are counted."""


def built_table(
    backbone: str = BUILTIN, base: Settings | None = None, only: str | None = None
) -> list[MethodRow]:
    """A row per method, for the widths and depths of a backbone; no weights are loaded.

    base: settings that the methods are merged over (prompt lengths and depths); None: the defaults. only: one method.
    Raises UserError for an unknown backbone or method.
    """
    if only is not None:
        get_method(only)
    config = _config(backbone)
    return [_row(name, config, base or Settings()) for name in METHODS if only in (None, name)]


def _config(backbone: str) -> dict[str, Any]:
    if backbone == BUILTIN:
        file = resources.files("ga2clip.assets") / BUILTIN / "config.json"
        return dict(json.loads(file.read_text(encoding="utf-8")))
    config = open_clip.get_model_config(backbone)
    if config is None or "layers" not in config["text_cfg"]:
        raise unknown_name("backbone", backbone, [BUILTIN, *open_clip.list_models()])
    return dict(config)


def _row(name: str, config: dict[str, Any], base: Settings) -> MethodRow:
    settings = base.updated(method_settings(name), name)
    site = _site(settings, config)
    parts = dict(build_parts(site))
    return MethodRow(
        name=name,
        summary=METHODS[name].summary,
        source=METHODS[name].source,
        parts=", ".join(part.describe() for part in parts.values()) or "-",
        losses=" + ".join(_weighted(term.name, weight) for term, weight in active_terms(settings).items()),
        parameters=sum(p.numel() for part in parts.values() for p in part.parameters()),
    )


def _site(settings: Settings, config: dict[str, Any]) -> Site:
    """A backbone of those sizes without its weights."""
    method, text, vision = settings.method, config["text_cfg"], config["vision_cfg"]
    return Site(
        settings=settings,
        classes=[f"class {number}" for number in range(EXAMPLE_CLASSES)],
        text=_size(text),
        vision=_size(vision),
        embed_dim=config["embed_dim"],
        hard_prompt=torch.zeros(method.text_length, text["width"]),
        phrase_prompts=lambda *_: (),
        frozen_classes=lambda: torch.zeros(EXAMPLE_CLASSES, config["embed_dim"]),
    )


def _size(tower: dict[str, Any]) -> TowerSize:
    width = tower["width"]
    return TowerSize(width, tower["layers"], int(width * tower.get("mlp_ratio", 4.0)))


def _weighted(term: str, weight: float) -> str:
    return term if weight == 1 else f"{weight:g}·{term}"
