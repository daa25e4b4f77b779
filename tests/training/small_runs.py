"""Short trainings, and ways to stop them where a test wants."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.run import load_run
from ga2clip.settings import Settings
from ga2clip.training import job, progress, train
from ga2clip.training.signals import StoppedError


def run(settings: Settings, out: Path, **options: Any) -> Path:
    """Train on the CPU, without a bar."""
    return train.train(settings, out, device="cpu", progress=False, **options)


def assert_same_run(one: Path, other: Path) -> None:
    """What was tuned is equal to the bit, and the metrics of every update are."""
    states = load_run(one).state(), load_run(other).state()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()


def assert_stopped_ends_as(
    whole: Path, settings: Settings, cut: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A training that is stopped after `after` updates and resumed ends as `whole`, which nothing stopped."""
    with monkeypatch.context() as stopping:
        signal_after(stopping, after)
        with pytest.raises(StoppedError):
            run(settings, cut)
    run(train.resume_settings(cut), cut, resume=True)
    assert_same_run(cut, whole)


def signal_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send SIGTERM while step `step` runs: it is noticed when the step is done."""
    call_after(monkeypatch, step - 1, lambda: os.kill(os.getpid(), signal.SIGTERM))


def call_after(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Call something when step `step` is recorded; 0: before the first."""
    original = progress.Recorder.on_step
    if step == 0:
        first = job.fit

        def fit(*arguments: Any) -> Any:
            action()
            return first(*arguments)

        monkeypatch.setattr(job, "fit", fit)
        return

    def on_step(self: progress.Recorder, position: Any, factor: float, outcome: Any) -> None:
        original(self, position, factor, outcome)
        if position.step + 1 == step:
            action()

    monkeypatch.setattr(progress.Recorder, "on_step", on_step)


def crash() -> None:
    raise RuntimeError("crash")
