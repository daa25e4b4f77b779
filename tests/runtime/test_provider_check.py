"""A provider other than the CPU has to reproduce torch's features, or the bundle is not opened with it."""

import numpy as np
import pytest

from ga2clip.errors import UserError
from ga2clip.runtime import Predictor
from ga2clip.runtime.bundle import Bundle
from ga2clip.runtime.card import VIDEO_ENCODER
from ga2clip.runtime.engine import check_provider


class Turned:
    """An engine whose frame features are turned away from the right ones by an angle."""

    provider = "cuda"

    def __init__(self, engine, degrees: float) -> None:
        self._engine, self._angle = engine, np.deg2rad(degrees)

    def run(self, inputs):
        outputs = self._engine.run(inputs)
        right = outputs["frame_features"]
        across = np.roll(right, 1, axis=-1)
        across = across - (across * right).sum(-1, keepdims=True) / (right**2).sum(-1, keepdims=True) * right
        across *= np.linalg.norm(right, axis=-1, keepdims=True) / np.linalg.norm(
            across, axis=-1, keepdims=True
        )
        return outputs | {"frame_features": np.cos(self._angle) * right + np.sin(self._angle) * across}


class Constant:
    provider = "cuda"

    def __init__(self, features: np.ndarray) -> None:
        self._features = features

    def run(self, _):
        return {"features": self._features}


@pytest.mark.parametrize(("degrees", "accepted"), [(0.0, True), (2.5, True), (2.7, False), (180.0, False)])
def test_the_cosine_to_torch_decides(degrees: float, accepted: bool) -> None:
    """A limit of 0.999 is an angle of 2.56 degrees."""
    angle = np.deg2rad(degrees)
    engine = Constant(np.array([[np.cos(angle), np.sin(angle)]]))
    question = (engine, "ids", np.zeros((1, 3)), "features", np.array([[1.0, 0.0]]), 0.999)
    if accepted:
        check_provider(*question)
    else:
        with pytest.raises(UserError, match="the provider 'cuda' computes features wrongly") as caught:
            check_provider(*question)
        assert caught.value.hint == "take --provider cpu"


def test_numbers_that_are_not_finite_are_refused() -> None:
    engine = Constant(np.array([[np.nan, 1.0]]))
    with pytest.raises(UserError, match="wrongly"):
        check_provider(engine, "ids", np.zeros((1, 3)), "features", np.array([[1.0, 0.0]]), 0.999)


@pytest.mark.parametrize(("degrees", "opened"), [(1.0, True), (5.0, False)])
def test_a_bundle_opens_with_such_a_provider_or_not(
    bundle, degrees: float, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Bundle.engine

    def engine(self, name, provider, **options):
        right = original(self, name, "cpu", **options)
        return Turned(right, degrees) if name == VIDEO_ENCODER else right

    monkeypatch.setattr(Bundle, "engine", engine)
    if opened:
        assert Predictor(bundle, provider="cuda", cache=False).provider == "cuda"
    else:
        with pytest.raises(UserError, match="computes frame_features wrongly"):
            Predictor(bundle, provider="cuda", cache=False)
