"""The built-in generated dataset of 40 actions, with declared base classes."""

from ga2clip.data.stickfigures.dataset import generated
from ga2clip.registry import DATASETS

DATASETS.register("stickfigures")(generated("stickfigures"))
