"""The built-in synthetic dataset: short H.264 clips of stick figures, drawn from class names and seeds."""

from ga2clip.data.stickfigures.classes import BASE_CLASSES, CLASSES, NOVEL_CLASSES, OTHER_CLASSES
from ga2clip.data.stickfigures.sets import CLASS_SETS

__all__ = ["BASE_CLASSES", "CLASSES", "CLASS_SETS", "NOVEL_CLASSES", "OTHER_CLASSES"]
