"""The built-in synthetic dataset: class names and seeds go in, short H.264 clips of stick figures come out."""

from ga2clip.data.stickfigures.classes import BASE_CLASSES, CLASSES, DATASETS, NOVEL_CLASSES, OTHER_CLASSES

__all__ = ["BASE_CLASSES", "CLASSES", "DATASETS", "NOVEL_CLASSES", "OTHER_CLASSES"]
