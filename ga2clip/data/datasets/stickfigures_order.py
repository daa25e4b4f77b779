"""The built-in generated dataset of 20 pairs of actions that differ by the order of their frames alone."""

from ga2clip.data.stickfigures.dataset import generated
from ga2clip.registry import DATASETS

DATASETS.register("stickfigures-order")(generated("stickfigures-order"))
