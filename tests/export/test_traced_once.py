"""Which encoders the tests take for equal: nothing that a graph depends on may be missed."""

from collections.abc import Callable

import torch
from torch import nn

from ga2clip.model.video_clip import VideoCLIP
from ga2clip_export.towers import FoldedTextEncoder, FoldedVideoEncoder
from tests.traced_once import _key


def test_equal_models_have_equal_encoders_and_a_changed_weight_shows(
    make_model: Callable[..., VideoCLIP],
) -> None:
    for fold in (FoldedVideoEncoder, FoldedTextEncoder):
        one, other = fold(make_model()), fold(make_model())
        assert _key(one, 20) == _key(other, 20) != _key(other, 23)
        changed: list[nn.Parameter | torch.Tensor] = [*other.tower.parameters(), *other.prompts.buffers()]
        for tensor in (changed[0], changed[-1]):
            before = _key(other)
            with torch.no_grad():
                tensor.flatten()[0].add_(1.0)
            assert _key(other) != before


def test_what_acts_on_features_is_part_of_them(make_model: Callable[..., VideoCLIP]) -> None:
    model = make_model("linear-probe")
    before = _key(FoldedTextEncoder(model)), _key(FoldedVideoEncoder(model))
    assert _key(FoldedVideoEncoder(make_model("zero-shot"))) == before[1]
    model.eval().backbone.text.tokens_of_nothing = 1  # an attribute counts, too
    assert _key(FoldedTextEncoder(model)) != before[0]
