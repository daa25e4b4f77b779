"""The built-in generated dataset of 16 other actions, where hard prompts and zero-shot transfer can be tried."""

from ga2clip.data.stickfigures.dataset import generated
from ga2clip.registry import DATASETS

DATASETS.register("stickfigures-other")(generated("stickfigures-other"))
