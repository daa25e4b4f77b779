"""The table of `ga2clip methods`: the parts of each method and its number of trainable parameters.

Without torch for the built-in backbone, whose rows are stored (`make docs` writes them, a test holds them equal).
"""

import json
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from ga2clip.model.methods import get_method

_BUILTIN = "tiny"


@dataclass(frozen=True)
class MethodRow:
    """One method: a description of its parts, its loss terms, and its number of trainable parameters."""

    name: str
    summary: str
    source: str
    parts: str
    losses: str
    parameters: int

    def to_json(self) -> dict[str, Any]:
        """The row as a dict."""
        return asdict(self)


def method_table(backbone: str = _BUILTIN, only: str | None = None) -> list[MethodRow]:
    """A row per method, for the widths and depths of a backbone; no weights are loaded.

    only: one method. Raises UserError for an unknown backbone or method.
    """
    if only is not None:
        get_method(only)
    if backbone == _BUILTIN:
        stored = json.loads((resources.files("ga2clip.assets") / "methods.json").read_text(encoding="utf-8"))
        return [MethodRow(**row) for row in stored if only in (None, row["name"])]
    from ga2clip.model.overview import built_table  # loads torch

    return built_table(backbone, only=only)
