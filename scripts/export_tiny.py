"""Write `ga2clip/assets/tiny/bundle` anew: the built-in backbone as a bundle, which predicts after the base install.

Run it after the weights of `tiny` or the format of bundles changed (`tests/runtime/test_builtin_bundle.py` notices).
"""

from pathlib import Path

from ga2clip.data.stickfigures.classes import CLASSES
from ga2clip_export.export import export_backbone

BUNDLE = Path(__file__).parents[1] / "ga2clip" / "assets" / "tiny" / "bundle"

if __name__ == "__main__":
    # int8 is a quarter of the size, and the wheel has it; frames as in the recipe of `stickfigures`.
    print(export_backbone("tiny", BUNDLE, classes=CLASSES, frames=4, precision="int8"))
