"""Kinetics-600; read like every release of Kinetics."""

from ga2clip.data.kinetics import kinetics
from ga2clip.registry import DATASETS

DATASETS.register("kinetics600")(kinetics(classes=600))
