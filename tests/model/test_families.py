"""A family of backbones is found by what its models are; the first that accepts a model builds its towers."""

import pytest
from torch import nn

from ga2clip.errors import UserError
from ga2clip.model.backbone import Backbone
from ga2clip.model.family import Tokenizer, Towers
from ga2clip.registry import BACKBONES
from ga2clip.video import Preprocess

PIXELS = Preprocess(16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Wrapped(nn.Module):
    """A model of another kind that holds a plain CLIP's towers."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.inner = backbone


class WrappedFamily:
    def accepts(self, model: nn.Module) -> bool:
        return isinstance(model, Wrapped)

    def towers(self, model: nn.Module, tokenizer: Tokenizer) -> Towers:
        inner = model.inner
        return Towers(
            inner.vision, inner.text, inner.logit_scale, 11, inner.embed_dim, tokenizer, {"heads": 1}
        )


def test_a_registered_family_builds_its_models(make_backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Wrapped(make_backbone())
    with pytest.raises(UserError, match=r"'other' does not belong to a family .*clip"):
        Backbone(model, name="other", licence="MIT", preprocess=PIXELS)
    monkeypatch.setitem(BACKBONES._things, "wrapped", WrappedFamily())
    found = Backbone(model, name="other", licence="MIT", preprocess=PIXELS)
    assert found.vision is model.inner.vision
    assert found.context_length == 11
    assert found.conventions() == {"heads": 1, "preprocess": PIXELS.to_json()}
    assert not any(parameter.requires_grad for parameter in found.parameters())
