"""The built-in synthetic dataset: short H.264 clips of stick figures, drawn from class names and seeds."""

from ga2clip.data.stickfigures.classes import BASE_CLASSES, CLASSES, DATASETS, NOVEL_CLASSES, OTHER_CLASSES

__all__ = ["BASE_CLASSES", "CLASSES", "DATASETS", "NOVEL_CLASSES", "OTHER_CLASSES"]
