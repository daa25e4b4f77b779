"""The built-in generated dataset whose base classes are narrow: one on which tuning can forget."""

from ga2clip.data.stickfigures.dataset import generated
from ga2clip.registry import DATASETS

DATASETS.register("stickfigures-narrow")(generated("stickfigures-narrow"))
