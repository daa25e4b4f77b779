"""Trainings that stop, crash or run out of disk end where they would have ended; and what is not gone on with."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.errors import UserError
from ga2clip.run import load_run
from ga2clip.settings import Settings
from ga2clip.training import job, train
from ga2clip.training.signals import StoppedError
from tests.training.small_runs import (
    assert_same_run,
    assert_stopped_ends_as,
    call_after,
    crash,
    run,
    signal_after,
)

Make = Callable[..., Settings]


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (2, 1), (3, 2), (5, 1)])
def test_a_stopped_training_ends_as_one_that_was_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int, every: int
) -> None:
    chosen = settings(training={"epochs": 3}, anchors={"every": every})
    whole = run(chosen, tmp_path / "whole")
    signal_after(monkeypatch, stop_after)
    with pytest.raises(StoppedError, match=f"SIGTERM after step {stop_after}") as caught:
        run(chosen, tmp_path / "cut")
    assert caught.value.exit_code == 143
    assert str(tmp_path / "cut") in (caught.value.hint or "")
    assert load_run(tmp_path / "cut").meta["step"] == stop_after
    monkeypatch.undo()
    run(train.resume_settings(tmp_path / "cut"), tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", whole)


@pytest.mark.parametrize("stop_after", [2, 3])
def test_an_average_over_epochs_is_the_same_after_a_stop(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    """After 2 updates the stop comes with the end of an epoch, which must be counted once."""
    chosen = settings(training={"epochs": 3}, average={"kind": "gaussian", "mean": 2.0})
    whole = run(chosen, tmp_path / "whole")
    assert_stopped_ends_as(whole, chosen, tmp_path / "cut", monkeypatch, stop_after)


def test_what_kills_left_is_cleared_away(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-written files of a folder that holds no run yet, and of one that does."""
    out = tmp_path / "cut"
    out.mkdir()
    (out / ".settings.4711.toml").write_text("[da")
    signal_after(monkeypatch, 2)
    with pytest.raises(StoppedError):
        run(settings(), out)
    monkeypatch.undo()
    (out / "environment.json").unlink()
    for name in (".prompts.4711.safetensors", "state/.checkpoint.4711.safetensors", ".metrics.4711.jsonl"):
        (out / name).write_bytes(b"half")
    (out / ".notes").write_text("somebody's own")
    run(train.resume_settings(out), out, resume=True)
    assert [path.name for path in out.rglob(".*")] == [".notes"]
    assert json.loads((out / "environment.json").read_text())["devices_used"] == 1


def test_a_kill_between_the_last_checkpoint_and_the_first_prompts_is_made_good(
    settings: Make, tmp_path: Path
) -> None:
    out = run(settings(training={"epochs": 1}), tmp_path / "run")
    whole = load_run(out).state()
    (out / "prompts.safetensors").unlink()
    run(train.resume_settings(out), out, resume=True)
    assert load_run(out).meta["finished"]
    for name, value in load_run(out).state().items():
        assert torch.equal(whole[name], value), name


@pytest.mark.parametrize("step", [1, 4])
def test_acrashed_training_goes_on_from_its_last_checkpoint(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """An exception in the middle stands for a kill: nothing is saved then; a line of metrics is cut in two."""
    chosen = settings(training={"epochs": 3})
    whole = run(chosen, tmp_path / "whole")
    call_after(monkeypatch, step, crash)
    with pytest.raises(RuntimeError, match="crash"):
        run(chosen, tmp_path / "cut")
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "ep')
    monkeypatch.undo()
    run(chosen, tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", whole)


def test_resuming_a_finished_run_changes_nothing(settings: Make, tmp_path: Path) -> None:
    out = run(settings(), tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    run(settings(), out, resume=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_kill_before_the_end_is_written_is_made_good(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All updates done, then killed: the weights still have to be mixed with the original ones."""
    chosen = settings("zero-shot", method={"tune": "vision", "interpolate": 0.5}, training={"epochs": 1})
    whole = run(chosen, tmp_path / "whole")
    monkeypatch.setattr(job.Job, "_finish", lambda *_: crash())
    with pytest.raises(RuntimeError, match="crash"):
        run(chosen, tmp_path / "cut")
    monkeypatch.undo()
    run(chosen, tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", whole)


def test_a_run_without_its_state_is_not_trained_over(settings: Make, tmp_path: Path) -> None:
    out = run(settings(), tmp_path / "run")
    shutil.rmtree(out / "state")
    before = (out / "prompts.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"no state/checkpoint\.safetensors to go on from") as caught:
        run(settings(), out, resume=True)
    assert f"--recipe {out}" in (caught.value.hint or "")
    assert (out / "prompts.safetensors").read_bytes() == before


def test_a_damaged_state_is_named(settings: Make, tmp_path: Path) -> None:
    out = run(settings(), tmp_path / "run")
    (out / "state" / "checkpoint.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged"):
        run(settings(), out, resume=True)


def test_a_run_whose_data_has_changed_does_not_go_on(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewer_clips: Path
) -> None:
    out = tmp_path / "cut"
    signal_after(monkeypatch, 3)
    with pytest.raises(StoppedError):
        run(settings(training={"epochs": 3}), out)
    monkeypatch.undo()
    before = (out / "settings.toml").read_bytes()
    moved = train.resume_settings(out, [f"data.root='{fewer_clips}'"])
    with pytest.raises(
        UserError,
        match=r"is not what .* was trained on: 0 training clips came and 4 went",
    ) as caught:
        run(moved, out, resume=True)
    assert "bring the dataset back" in (caught.value.hint or "")
    assert (out / "settings.toml").read_bytes() == before


def test_a_run_goes_on_with_less_memory_but_not_as_another_training(settings: Make, tmp_path: Path) -> None:
    whole = run(settings("ivlp"), tmp_path / "whole")
    chosen = train.resume_settings(whole, ["training.micro_batch=1", "training.class_chunk=1"])
    assert (chosen.training.micro_batch, chosen.training.class_chunk) == (1, 1)
    with pytest.raises(UserError, match=r"training\.lr.*another training") as caught:
        train.resume_settings(whole, ["training.lr=1"])
    assert "training.micro_batch" in (caught.value.hint or "")
    with pytest.raises(UserError, match="is not a run"):
        train.resume_settings(tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint_good(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(training={"epochs": 3})
    whole = run(chosen, tmp_path / "whole")
    saves = []

    def full(*_: Any, **__: Any) -> None:
        saves.append(1)
        if len(saves) == 3:  # the second epoch's checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(*_, **__)

    import safetensors.torch

    original = safetensors.torch.save_file
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match="No space left") as caught:
        run(chosen, tmp_path / "cut")
    assert "free some space" in (caught.value.hint or "")
    monkeypatch.undo()
    assert load_run(tmp_path / "cut").meta["step"] == 2
    run(chosen, tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "cut", whole)
