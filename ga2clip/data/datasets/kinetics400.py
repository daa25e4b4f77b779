"""Kinetics-400; read like every release of Kinetics."""

from ga2clip.data.kinetics import kinetics
from ga2clip.registry import DATASETS

DATASETS.register("kinetics400")(kinetics(classes=400))
