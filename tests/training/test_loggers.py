"""Where metrics go beside metrics.jsonl: the chosen logger gets every number, and an unknown one is refused."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.registry import LOGGERS
from ga2clip.run import is_finished, load_run, read_metrics
from ga2clip.settings import Settings
from ga2clip.training.logger import Logger
from ga2clip.training.train import resume_settings, train
from tests.small_training import dataset as dataset
from tests.small_training import settings as settings

Make = Callable[..., Settings]


class InMemory(Logger):
    """A logger of a user's own."""

    seen: list[tuple[int, dict[str, float]]]

    def __init__(self, folder: Path, settings: Settings, step: int) -> None:
        InMemory.seen = []
        self.open = True

    def log(self, values: Mapping[str, float], step: int) -> None:
        assert self.open
        InMemory.seen.append((step, dict(values)))

    def close(self) -> None:
        self.open = False


LOGGERS.register("in_memory")(InMemory)


def test_a_logger_of_ones_own_gets_every_number(settings: Make, tmp_path: Path) -> None:
    out = train(
        settings("vpt", training={"logger": "in_memory"}), tmp_path / "run", progress=False, device="cpu"
    )
    lines = read_metrics(out)
    steps = [(step, values) for step, values in InMemory.seen if "loss" in values]
    assert [(step, values["loss"]) for step, values in steps] == [
        (line["step"], line["loss"]) for line in lines
    ]
    times = [step for step, values in InMemory.seen if "time/seconds_per_epoch" in values]
    assert times == [2, 4]


def test_an_unknown_logger_is_refused_with_the_choices(settings: Make) -> None:
    with pytest.raises(UserError) as caught:
        settings(training={"logger": "tensorbord"})
    assert caught.value.message.endswith(": unknown logger 'tensorbord'")
    assert str(caught.value.hint).startswith("did you mean 'tensorboard'? valid: ")
    assert {"tensorboard", "wandb"} <= set(str(caught.value.hint).partition("valid: ")[2].split(", "))


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_missing_package_is_said_before_anything_is_written(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=name):
        train(settings("vpt", training={"logger": name}), tmp_path / "run", progress=False, device="cpu")
    assert not (tmp_path / "run").exists()


def test_tensorboard_can_be_read_back(settings: Make, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(
        settings("vpt", training={"logger": "tensorboard"}), tmp_path / "run", progress=False, device="cpu"
    )
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in found] == [1, 2, 3, 4]
    assert [value for _, value in found] == pytest.approx([line["loss"] for line in read_metrics(out)])


class FakeWandb:
    """Of the client, what the logger calls; each run with what it was told."""

    class Error(Exception):
        pass

    Settings = dict

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.refuses = False

    def init(self, **options: Any) -> "FakeWandb":
        if self.refuses:
            raise self.Error("No API key configured.")
        self.runs.append({**options, "logged": [], "finished": False})
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.runs[-1]["logged"].append((step, values))

    def finish(self) -> None:
        self.runs[-1]["finished"] = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_wandb_is_told_every_number_and_nothing_of_the_machine(
    settings: Make, tmp_path: Path, wandb: FakeWandb
) -> None:
    out = train(settings("vpt", training={"logger": "wandb"}), tmp_path / "run", progress=False, device="cpu")
    (run,) = wandb.runs
    assert (run["project"], run["name"], run["dir"], run["resume"]) == ("ga2clip", "run", str(out), "allow")
    assert run["config"] == load_run(out).settings.model_dump(mode="json")
    assert run["settings"] == {
        "console": "off",
        "silent": True,
        **dict.fromkeys(("disable_git", "disable_code", "x_disable_stats", "x_disable_meta"), True),
    }
    assert [(step, values["loss"]) for step, values in run["logged"] if "loss" in values] == [
        (line["step"], line["loss"]) for line in read_metrics(out)
    ]
    assert [step for step, values in run["logged"] if "time/seconds_per_epoch" in values] == [2, 4]
    assert run["finished"]


def test_a_training_that_goes_on_is_the_same_run_of_wandb(
    settings: Make, tmp_path: Path, wandb: FakeWandb
) -> None:
    """Also after its folder was moved; another training in its place is another one."""
    small = settings("vpt", training={"logger": "wandb", "epochs": 1})
    train(small, tmp_path / "run", progress=False, device="cpu")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    longer = resume_settings(moved, epochs=2)
    train(longer, moved, resume=True, progress=False, device="cpu")
    train(small, tmp_path / "run", progress=False, device="cpu")
    first, second, third = wandb.runs
    assert first["id"] == second["id"] != third["id"]
    steps = [[step for step, values in run["logged"] if "loss" in values] for run in wandb.runs]
    assert steps == [[1, 2], [3, 4], [1, 2]]


def test_a_refusal_of_wandb_is_an_error_with_a_way_on(
    settings: Make, tmp_path: Path, wandb: FakeWandb
) -> None:
    wandb.refuses = True
    small = settings("vpt", training={"logger": "wandb", "epochs": 1})
    with pytest.raises(UserError, match="Weights & Biases: No API key") as caught:
        train(small, tmp_path / "run", progress=False, device="cpu")
    assert f"WANDB_MODE=offline; then ga2clip train --resume {tmp_path / 'run'}" in str(caught.value.hint)
    wandb.refuses = False
    train(resume_settings(tmp_path / "run"), tmp_path / "run", resume=True, progress=False, device="cpu")
    assert is_finished(tmp_path / "run")


@pytest.mark.slow
def test_wandb_works_offline(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client; the file that `wandb sync` would upload has the numbers and the settings."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = train(settings("vpt", training={"logger": "wandb"}), tmp_path / "run", progress=False, device="cpu")
    (file,) = out.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for line in read_metrics(out):
        assert json.dumps(line["loss"]).encode() in content
    assert b"scenario_template" in content


class Stop:
    """Ends a training after an epoch."""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, []  # type: ignore[var-annotated]

    def on_epoch_end(self, metrics: Mapping[str, float]) -> bool:
        self.seen.append(dict(metrics))
        return metrics["epoch"] == self.after


def test_callbacks_see_every_epoch_and_may_end_the_training(settings: Make, tmp_path: Path) -> None:
    told, ends = Stop(99), Stop(2)
    small = settings("vpt", training={"epochs": 3})
    out = train(small, tmp_path / "run", progress=False, device="cpu", callbacks=[ends, told])
    lines = read_metrics(out)
    assert len(lines) == 4  # 2 epochs of 2 updates, of 3
    assert [metrics["epoch"] for metrics in told.seen] == [1, 2]
    mean = (lines[2]["loss"] + lines[3]["loss"]) / 2
    assert told.seen[1]["loss"] == pytest.approx(mean)
    assert told.seen[1]["cross_entropy"] == pytest.approx(mean)
    assert told.seen[1]["accuracy"] == pytest.approx((lines[2]["accuracy"] + lines[3]["accuracy"]) / 2)
    assert is_finished(out)


def test_a_callback_does_not_cut_an_average(settings: Make, tmp_path: Path) -> None:
    small = settings("vpt", average={"kind": "uniform"})
    with pytest.raises(UserError, match="average needs all epochs"):
        train(small, tmp_path / "run", progress=False, device="cpu", callbacks=[Stop(1)])
