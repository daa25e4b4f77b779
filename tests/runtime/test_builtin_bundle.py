"""The bundle that the package ships: `tiny` for the base install, made of the weights that ship beside it."""

from importlib import resources
from pathlib import Path

import numpy as np

from ga2clip.data.stickfigures.classes import CLASSES
from ga2clip.data.stickfigures.render import render_clip
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.scoring import normalise

BUNDLE = Path(str(resources.files("ga2clip.assets"))) / "tiny" / "bundle"
NAMES = list(CLASSES)


def test_is_whole_and_small() -> None:
    bundle = open_bundle(BUNDLE)
    bundle.verify()
    assert bundle.card.classes == tuple(NAMES)
    assert bundle.card.licence == "MIT"
    assert sum(file.stat().st_size for file in BUNDLE.iterdir()) < 5e6


def test_is_of_the_weights_that_ship() -> None:
    """Within what its precision may differ; a bundle of older weights would be far off."""
    from ga2clip.evaluation.torch_model import zero_shot_model

    torch_model = zero_shot_model("tiny", None, NAMES, device="cpu")
    novel = ["kicking a kite", "quaffing zyzzyvas"]  # the second has words that it never saw
    frames = render_clip(CLASSES[3], seed=1)[:4]
    with Predictor(BUNDLE, provider="cpu", cache=False) as predictor:
        for texts in (NAMES, novel):
            theirs = normalise(torch_model.encode_classes(texts))
            assert (predictor.encode_classes(texts) * theirs).sum(axis=1).min() > 0.99
        clip = predictor.prepare(frames)
        ours = normalise(predictor.encode_frames(clip))
    assert (ours * normalise(torch_model.encode_frames(clip))).sum(axis=1).min() > 0.99


def test_knows_the_drawn_world() -> None:
    """Above chance (1 in 40) by far, on clips that nothing was tuned on."""
    with Predictor(BUNDLE, provider="cpu") as predictor:
        right = [
            predictor.predict_frames(render_clip(action, seed=77), top=1).predictions[0][0] == action
            for action in CLASSES[::4]
        ]
    assert np.mean(right) >= 0.3


def test_has_the_rows_of_known_tokens_alone() -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(BUNDLE / "text_encoder.onnx")).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (places,) = (value for name, value in tensors.items() if name.endswith(".places"))
    (rows,) = (value for name, value in tensors.items() if name.endswith(".rows"))
    assert len(places) == 49408
    assert len(rows) == places.max() + 1 < 1000
    assert not rows[0].any()  # of all unknown ones
