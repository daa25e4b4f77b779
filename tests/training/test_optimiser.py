"""The optimisers and their groups against a few lines of NumPy; averages of states through a resumed run."""

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
from ga2clip.settings import AverageSettings, Settings, TrainingSettings
from ga2clip.training import job, train
from ga2clip.training.averaging import state_weights
from ga2clip.training.optimiser import build_optimiser, set_lr
from tests.small_training import BASE


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


def test_gaussian_weights_far_from_the_mean_go_to_the_nearest_state() -> None:
    far = AverageSettings(kind="gaussian", mean=15.0, std=0.1)
    assert state_weights(far, 2) == pytest.approx([0.0, 1.0])


def test_gaussian_weights_of_three_states() -> None:
    density = np.exp(-0.5 * ((np.array([1, 2, 3]) - 2.5) / 0.5) ** 2)
    ours = state_weights(AverageSettings(kind="gaussian", mean=2.5, std=0.5), 3)
    assert ours == pytest.approx(list(density / density.sum()))


def test_uniform_weights_are_all_the_same() -> None:
    assert state_weights(AverageSettings(kind="uniform"), 4) == [0.25] * 4


def test_exponential_weights_are_those_of_a_moving_average_without_its_start() -> None:
    """m ← d·m + (1 − d)·x from 0, over 1 − dᵗ as Adam corrects its moments."""
    states, moving = [3.0, -1.0, 4.0, 1.0, 5.0], 0.0
    for value in states:
        moving = 0.8 * moving + 0.2 * value
    weights = state_weights(AverageSettings(kind="exponential", decay=0.8), len(states))
    assert float(np.dot(weights, states)) == pytest.approx(moving / (1 - 0.8**5))


AVERAGES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "gaussian": (
        {"kind": "gaussian", "mean": 1.5, "std": 1.0},
        [float(np.exp(-0.5 * (n - 1.5) ** 2)) for n in (1, 2, 3)],
    ),
    "uniform": ({"kind": "uniform"}, [1.0, 1.0, 1.0]),
    "exponential, over updates": (
        {"kind": "exponential", "over": "updates", "decay": 0.5},
        [2.0**n for n in range(6)],
    ),
    "uniform, over updates": ({"kind": "uniform", "over": "updates"}, [1.0] * 6),
}


@pytest.mark.parametrize(("average", "relative"), AVERAGES.values(), ids=AVERAGES)
def test_a_run_ends_as_the_average_of_its_states_also_when_it_was_stopped(
    settings: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    average: dict[str, Any],
    relative: list[float],
) -> None:
    """Three epochs of two updates."""
    plain = settings("coop", training={"epochs": 3})
    states = _states_after_updates(plain, tmp_path / "plain", monkeypatch)
    assert len(states) == 6
    averaged = states if len(relative) == 6 else states[1::2]
    expected = sum(w * state for w, state in zip(np.divide(relative, sum(relative)), averaged, strict=True))
    chosen = plain.updated({"average": average}, "test")
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


def test_parts_are_mixed_with_what_they_started_from_also_after_a_stop(
    settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = settings("ivlp", training={"epochs": 3})
    mixed = plain.updated({"method": {"interpolate_parts": 0.25}}, "test")
    train.train(plain, tmp_path / "plain", device="cpu", progress=False)
    start = train.make_model(plain, BASE).trainable_state()
    train.train(mixed, tmp_path / "mixed", device="cpu", progress=False)
    state = load_run(tmp_path / "mixed").state()
    for name, value in load_run(tmp_path / "plain").state().items():
        assert not torch.equal(value, start[name]), name
        torch.testing.assert_close(state[name], 0.25 * value + 0.75 * start[name], msg=name)
    _stop_after(2, mixed, tmp_path / "stopped", monkeypatch)
    train.train(mixed, tmp_path / "stopped", resume=True, device="cpu", progress=False)
    for name, value in load_run(tmp_path / "stopped").state().items():
        assert torch.equal(value, state[name]), name


def test_a_share_of_nothing_is_the_untrained_model(settings: Callable[..., Any], tmp_path: Path) -> None:
    chosen = settings("coop", method={"interpolate_parts": 0.0})
    train.train(chosen, tmp_path / "run", device="cpu", progress=False)
    start = train.make_model(chosen, BASE).trainable_state()
    assert all(torch.equal(value, start[name]) for name, value in load_run(tmp_path / "run").state().items())


def _states_after_updates(chosen: Settings, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    states: list[np.ndarray] = []
    original = job.Recorder.on_step

    def on_step(self: Any, *given: Any) -> None:
        states.append(self.updater.parameters["parts.text_prompt.layers.0"].detach().numpy().copy())
        original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(job.Recorder, "on_step", on_step)
        train.train(chosen, out, device="cpu", progress=False)
    return states


def _stop_after(epochs: int, chosen: Settings, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    original = job.Recorder.save

    def save(self: Any, position: Any) -> None:
        original(self, position)
        if position.epoch == epochs:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(job.Recorder, "save", save)
        with pytest.raises(KilledError):
            train.train(chosen, out, device="cpu", progress=False)
