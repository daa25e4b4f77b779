"""The built-in generated dataset of 40 actions, whose base half is declared."""

from ga2clip.data.stickfigures.dataset import generated
from ga2clip.registry import DATASETS

DATASETS.register("stickfigures")(generated("stickfigures"))
