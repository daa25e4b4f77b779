"""The table of `ga2clip methods`: the parts of each method and its number of trainable parameters.

Without torch for the built-in backbone, whose rows are stored (`make docs` writes them, a test holds them equal).
"""

import json
from importlib import resources

from ga2clip.model.methods import MethodRow, get_method

_BUILTIN = "tiny"


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
