"""The optimisers and their groups against a few lines of NumPy; the average over epochs through a resumed run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import build_model
from ga2clip.run import load_run
from ga2clip.settings import Settings, TrainingSettings
from ga2clip.training import train
from ga2clip.training.averaging import gaussian_weights
from ga2clip.training.optimiser import build_optimiser, set_lr


def steps(
    settings: TrainingSettings, start: np.ndarray, gradients: list[np.ndarray], factor: float
) -> np.ndarray:
    """The parameter after our optimiser's steps with those gradients."""
    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = build_optimiser({"parts": {"p": parameter}, "backbone": {}}, settings)
    set_lr(optimiser, factor)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimiser.step()
    return parameter.detach().numpy()


@pytest.fixture
def trajectory() -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=5), [rng.normal(size=5) for _ in range(4)]


def test_adamw_equals_its_numpy_twin(trajectory: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """Decoupled weight decay: Loshchilov and Hutter, ICLR 2019, algorithm 2."""
    start, gradients = trajectory
    settings = TrainingSettings(lr=0.1, weight_decay=0.3, betas=(0.8, 0.95))
    expected, m, v = start.copy(), np.zeros(5), np.zeros(5)
    for t, g in enumerate(gradients, start=1):
        expected *= 1 - 0.05 * 0.3
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        expected -= 0.05 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
    np.testing.assert_allclose(steps(settings, start, gradients, factor=0.5), expected, rtol=1e-10)


def test_sgd_equals_its_numpy_twin(trajectory: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """Momentum as in torch, with decay added to the gradient: what CoOp's code runs."""
    start, gradients = trajectory
    settings = TrainingSettings(optimiser="sgd", lr=0.1, weight_decay=0.3, momentum=0.6)
    expected, velocity = start.copy(), np.zeros(5)
    for g in gradients:
        velocity = 0.6 * velocity + g + 0.3 * expected
        expected = expected - 0.1 * velocity
    np.testing.assert_allclose(steps(settings, start, gradients, factor=1.0), expected, rtol=1e-10)


def test_each_group_has_its_rate_and_every_trained_tensor_is_in_one(clip_file: Path) -> None:
    tree = {
        "backbone": {"pretrained": str(clip_file)},
        "method": {"tune": "both", "text_length": 4, "vision_length": 4},
        "training": {"lr": 0.1, "backbone_lr": 0.2},
    }
    settings = Settings().updated(tree, "test")
    model = build_model(load_backbone(settings.backbone), settings, ["a", "b"])
    optimiser = build_optimiser(model.parameter_groups(), settings.training)
    names = {parameter: name for name, parameter in model.trainable_parameters().items()}
    rates = {names[p]: group["base_lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        assert rate == (0.1 if name in {f"parts.{n}" for n in model.parts.state_dict()} else 0.2)
    assert {"backbone.logit_scale", "backbone.text.positional_embedding"} <= rates.keys()
    assert "backbone.text.token_embedding.weight" not in rates


def test_gaussian_weights_far_from_the_mean_go_to_the_nearest_epoch() -> None:
    assert gaussian_weights(2, 15.0, 0.1) == pytest.approx([0.0, 1.0])


def test_gaussian_weights_of_three_epochs() -> None:
    density = np.exp(-0.5 * ((np.array([1, 2, 3]) - 2.5) / 0.5) ** 2)
    assert gaussian_weights(3, 2.5, 0.5) == pytest.approx(list(density / density.sum()))


def test_a_run_ends_as_the_average_of_its_epochs_also_when_it_was_stopped(
    settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "draw_curves", lambda _: None)
    average = {"average": {"kind": "gaussian", "mean": 1.5, "std": 1.0}, "training": {"epochs": 3}}
    plain = settings("coop", training={"epochs": 3})
    ends = _states_after_epochs(plain, tmp_path / "plain", monkeypatch)
    expected = sum(w * end for w, end in zip(gaussian_weights(3, 1.5, 1.0), ends, strict=True))
    chosen = settings("coop", **average)
    train.train(chosen, tmp_path / "whole", device="cpu", progress=False)
    name = "parts.text_prompt.layers.0"
    np.testing.assert_allclose(
        load_run(tmp_path / "whole").state()[name].numpy(), expected, rtol=1e-5, atol=1e-8
    )
    _stop_after(2, chosen, tmp_path / "stopped", monkeypatch)
    train.train(chosen, tmp_path / "stopped", resume=True, device="cpu", progress=False)
    assert torch.equal(
        load_run(tmp_path / "stopped").state()[name], load_run(tmp_path / "whole").state()[name]
    )


def _states_after_epochs(chosen: Settings, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    ends: list[np.ndarray] = []
    original = train.Recorder.on_epoch

    def on_epoch(self: Any, tally: Any) -> None:
        ends.append(self.updater.parameters["parts.text_prompt.layers.0"].detach().numpy().copy())
        original(self, tally)

    with monkeypatch.context() as patch:
        patch.setattr(train.Recorder, "on_epoch", on_epoch)
        train.train(chosen, out, device="cpu", progress=False)
    return ends


def _stop_after(epochs: int, chosen: Settings, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    original = train.Recorder.save

    def save(self: Any, position: Any) -> None:
        original(self, position)
        if position.epoch == epochs:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(train.Recorder, "save", save)
        with pytest.raises(KilledError):
            train.train(chosen, out, device="cpu", progress=False)
