"""The table of `ga2clip backbones`: what can be used, from open_clip's registry and what our families say of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import open_clip

from ga2clip.errors import unknown_name
from ga2clip.model.family import Level, Support, support
from ga2clip.model.licences import Licence, licence_of
from ga2clip.model.load_backbone import BUILTIN

SAYS: dict[Level, str] = {"full": "everything", "text": "text side", "none": "not supported"}
"""A level of support in a table. `text side`: all but what enters the vision tower."""


@dataclass(frozen=True)
class BackboneRow:
    """One architecture.

    Attributes:
        name: of open_clip, or the built-in one's.
        family: which file of `ga2clip/model/backbones` takes it; empty for none.
        support: `full`, `text` (all but vision prompts, maps into the vision tower and LoRA there) or `none`.
        reason: why not everything; empty for `full`.
        image_size: pixels of a side of a frame.
        vision, text: parameters of the towers; None where they are not known.
        flop: floating-point operations for one frame, a multiply-add being two; None where they are not known.
        licences: by tag of published weights, with the page that states it.
    """

    name: str
    family: str
    support: Level
    reason: str
    image_size: int
    vision: int | None
    text: int | None
    flop: int | None
    licences: dict[str, Licence]

    def to_json(self) -> dict[str, Any]:
        """The row as a dict; each licence is `{"name", "source"}`."""
        licences = {tag: licence._asdict() for tag, licence in self.licences.items()}
        return asdict(self) | {"licences": licences}

    @property
    def cells(self) -> tuple[str, ...]:
        """The row for a table, below `HEAD`."""
        return (
            self.name,
            _count(self.vision, 1e6),
            _count(self.text, 1e6),
            _count(self.flop, 1e9),
            str(self.image_size),
            self.family or "–",
            SAYS[self.support],
            ", ".join(dict.fromkeys(licence.name for licence in self.licences.values())) or "no weights",
        )


HEAD = ("name", "vision, M", "text, M", "GFLOP", "pixels", "family", "supported", "licences of weights")
"""Parameters in millions; GFLOP for one frame."""


def backbone_table(only: str | None = None) -> list[BackboneRow]:
    """The built-in backbone and all architectures of the installed open_clip; of one name only that.

    Raises:
        UserError: there is no architecture `only`.
    """
    names = [BUILTIN, *open_clip.list_models()]
    if only is not None and only not in names:
        raise unknown_name("backbone", only, names)
    file = resources.files("ga2clip.assets") / "backbones.json"
    sizes = json.loads(file.read_text(encoding="utf-8"))
    return [_row(name, sizes.get(name, {})) for name in names if only in (None, name)]


def as_markdown(rows: Sequence[BackboneRow]) -> str:
    """Markdown: the architectures, and those that are not fully supported with the reason."""
    tables = [
        f"As open_clip {open_clip.__version__} lists them.",
        _markdown((*HEAD, "weights (tags)"), [(*row.cells, ", ".join(row.licences)) for row in rows]),
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason:
            reasons.setdefault((SAYS[row.support], row.reason), []).append(row.name)
    if reasons:
        lines = [(said, reason, ", ".join(names)) for (said, reason), names in reasons.items()]
        tables.append(_markdown(("supported", "because", "which"), lines))
    return "\n\n".join(tables) + "\n"


def _row(name: str, sizes: dict[str, int | None]) -> BackboneRow:
    if name == BUILTIN:
        config = json.loads((resources.files("ga2clip.assets") / BUILTIN / "config.json").read_text("utf-8"))
        tags, said = ["builtin"], Support("clip", "full")
    else:
        config = open_clip.get_model_config(name)
        tags, said = open_clip.list_pretrained_tags_by_model(name), support(name)
    return BackboneRow(
        name=name,
        family=said.family if said.level != "none" else "",
        support=said.level,
        reason=said.reason,
        image_size=config["vision_cfg"].get("image_size", 224),
        vision=sizes.get("vision"),
        text=sizes.get("text"),
        flop=sizes.get("flop"),
        licences={tag: licence_of(name, tag) for tag in tags},
    )


def _count(number: int | None, unit: float) -> str:
    if number is None:
        return "–"
    return f"{number / unit:.1f}" if number < 100 * unit else f"{number / unit:.0f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))
