"""The built-in generated dataset of 16 other actions, for learning hard prompts and testing zero-shot transfer."""

from ga2clip.data.stickfigures.dataset import generated
from ga2clip.registry import DATASETS

DATASETS.register("stickfigures-other")(generated("stickfigures-other"))
