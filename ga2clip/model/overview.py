"""Counts the parts and trainable parameters of each method for the sizes of a backbone, by building them.

`method_table.py` has the rows without torch for the built-in backbone.
"""

import json
from collections.abc import Iterable, Iterator
from importlib import resources

import open_clip
import torch
from torch import nn

from ga2clip.errors import UserError, unknown_name
from ga2clip.model.blueprint import blueprint_of_name
from ga2clip.model.family import Towers, towers_of
from ga2clip.model.load_backbone import BUILTIN
from ga2clip.model.methods import METHODS, MethodRow, get_method, method_settings
from ga2clip.model.part import Part, Site, build_parts, tower_size
from ga2clip.model.term import active_terms
from ga2clip.settings import Settings
from ga2clip.tokenizer import ClipTokenizer

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
    towers = _towers(backbone)
    return [_row(name, towers, base or Settings()) for name in METHODS if only in (None, name)]


def _towers(backbone: str) -> Towers:
    """The towers of a backbone, with sizes and no memory."""
    with torch.device("meta"):
        if backbone == BUILTIN:
            file = resources.files("ga2clip.assets") / BUILTIN / "config.json"
            config = json.loads(file.read_text(encoding="utf-8"))
            config.pop("preprocess")
            model: nn.Module = open_clip.CLIP(**config)
        elif backbone in open_clip.list_models():
            model = blueprint_of_name(backbone).build()
        else:
            raise unknown_name("backbone", backbone, [BUILTIN, *open_clip.list_models()])
        return towers_of(
            model, backbone, ClipTokenizer.from_open_clip()
        )  # its sizes are those with any tokenizer


def _row(name: str, towers: Towers, base: Settings) -> MethodRow:
    settings = base.updated(method_settings(name), name)
    site = _site(settings, towers)
    try:
        parts = dict(build_parts(site))
    except UserError as error:
        if not site.vision.no_prompts:
            raise
        return MethodRow(
            name, METHODS[name].summary, METHODS[name].source, f"refused: {error.message}", "-", 0
        )
    return MethodRow(
        name=name,
        summary=METHODS[name].summary,
        source=METHODS[name].source,
        parts=", ".join(_described(parts.values(), settings)) or "-",
        losses=" + ".join(_weighted(term.name, weight) for term, weight in active_terms(settings).items()),
        parameters=sum(p.numel() for part in parts.values() for p in part.parameters()),
    )


def _described(parts: Iterable[Part], settings: Settings) -> Iterator[str]:
    yield from (part.describe() for part in parts)
    if settings.method.teach:
        yield "classes learned from the clips"


def _site(settings: Settings, towers: Towers) -> Site:
    """A backbone of those sizes without its weights."""
    width, length = towers.text.width, settings.method.text_length
    return Site(
        settings=settings,
        classes=[f"class {number}" for number in range(EXAMPLE_CLASSES)],
        text=tower_size(towers.text),
        vision=tower_size(towers.vision),
        embed_dim=towers.embed_dim,
        hard_prompt=torch.zeros(length, width),
        phrase_prompts=lambda *_: (),
        frozen_classes=lambda: torch.zeros(EXAMPLE_CLASSES, towers.embed_dim),
    )


def _weighted(term: str, weight: float) -> str:
    return term if weight == 1 else f"{weight:g}·{term}"
