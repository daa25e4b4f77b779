"""All built-in datasets by name, as sets of classes."""

from __future__ import annotations

from ga2clip.data.stickfigures.classes import STICKFIGURES, STICKFIGURES_OTHER, ClassSet
from ga2clip.data.stickfigures.classes_narrow import NARROW
from ga2clip.data.stickfigures.classes_order import ORDER

CLASS_SETS: dict[str, ClassSet] = {
    "stickfigures": STICKFIGURES,
    "stickfigures-other": STICKFIGURES_OTHER,
    "stickfigures-order": ORDER,
    "stickfigures-narrow": NARROW,
}
"""The classes of each built-in dataset."""
