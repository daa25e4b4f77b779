"""Runs that go on: with more epochs, from another folder, for colleagues; and not with other data."""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.data.manifest import Manifest
from ga2clip.errors import UserError
from ga2clip.evaluation.evaluate import evaluate_run
from ga2clip.run import load_run, read_metrics
from ga2clip.settings import AverageSettings, Settings
from ga2clip.training import train
from ga2clip.training.averaging import StateAverage
from ga2clip.training.schedule import Rate
from ga2clip.training.signals import StoppedError
from tests.training.small_runs import assert_same_run, signal_after

Make = Callable[..., Settings]


def run(settings: Settings, out: Path, **options: Any) -> Path:
    return train.train(settings, out, device="cpu", progress=False, **options)


def test_a_finished_run_is_extended_and_the_record_repeats_it(settings: Make, tmp_path: Path) -> None:
    out = run(settings("ivlp"), tmp_path / "run")
    first = read_metrics(out)
    run(train.resume_settings(out, epochs=4), out, resume=True)
    written = train.resume_settings(out)
    assert (written.training.epochs, written.training.extended) == (4, (2,))
    lines = read_metrics(out)
    assert lines[: len(first)] == first
    assert (len(first), len(lines)) == (4, 8)
    # Two updates an epoch: the rate is that of two epochs, then that of four.
    short, long = (Rate(total=total, warmup=1, per_epoch=2) for total in (4, 8))
    expected = [short.factor(step) for step in range(4)] + [long.factor(step) for step in range(4, 8)]
    assert [line["lr"] for line in lines] == pytest.approx([0.01 * factor for factor in expected])
    assert load_run(out).meta["step"] == 8
    assert_same_run(run(written, tmp_path / "again"), out)


def test_it_can_be_extended_again_and_stopped_meanwhile(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run(settings("ivlp", training={"epochs": 1}), tmp_path / "run")
    run(train.resume_settings(out, epochs=2), out, resume=True)
    signal_after(monkeypatch, 1)
    with pytest.raises(StoppedError):
        run(train.resume_settings(out, epochs=3), out, resume=True)
    monkeypatch.undo()
    run(train.resume_settings(out), out, resume=True)
    assert load_run(out).settings.training.extended == (1, 2)
    assert_same_run(run(train.resume_settings(out), tmp_path / "again"), out)


def test_it_is_not_made_shorter_and_equal_epochs_change_nothing(settings: Make, tmp_path: Path) -> None:
    out = run(settings("ivlp"), tmp_path / "run")
    assert train.resume_settings(out, epochs=2) == train.resume_settings(out)
    with pytest.raises(UserError, match="has 2 epochs already"):
        train.resume_settings(out, epochs=1)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "exponential"])
@pytest.mark.parametrize("over", ["epochs", "updates"])
def test_the_average_of_an_extended_training_is_that_of_a_long_one(kind: str, over: str) -> None:
    """The same parameters after each update, counted in one go or in two."""
    settings = AverageSettings.model_validate(
        {"kind": kind, "over": over, "mean": 3.0, "std": 2.0, "decay": 0.7}
    )
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    long, short = StateAverage({"w": weight}, settings), StateAverage({"w": weight}, settings)
    for step in range(1, 13):
        weight.data.fill_(step**2)
        long.after_update(step, per_epoch=3, epochs=4)
        if step == 7:
            short, before = StateAverage({"w": weight}, settings), short
            short.sums["w"].copy_(before.sums["w"])
            short.extend(2, 4)
        short.after_update(step, per_epoch=3, epochs=2 if step <= 6 else 4)
    assert short.sums["w"].item() == pytest.approx(long.sums["w"].item(), rel=1e-12)


def test_other_training_clips_are_not_resumed_on(
    settings: Make, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    signal_after(monkeypatch, 1)
    with pytest.raises(StoppedError):
        run(settings("ivlp", data={"root": str(root)}), tmp_path / "run")
    monkeypatch.undo()
    manifest = Manifest.read(root)
    swapped = {"0_1.mp4": "test", "0_4.mp4": "train"}
    clips = [replace(clip, split=swapped.get(clip.path, clip.split)) for clip in manifest.clips]
    replace(manifest, clips=tuple(clips)).write()
    with pytest.raises(UserError, match="1 training clip came and 1 went"):
        run(train.resume_settings(tmp_path / "run"), tmp_path / "run", resume=True)


def test_an_untrained_prompt_is_no_zero_shot_model(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="what 'ivlp' learns would stay as it starts") as caught:
        run(settings("ivlp", data={"protocol": "zero-shot"}), tmp_path / "run")
    assert "--method zero-shot" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()
    out = run(settings("zero-shot", data={"protocol": "zero-shot"}), tmp_path / "run")
    assert evaluate_run(out, device="cpu", progress=False).protocol == "zero-shot"


def test_runs_are_found_and_read_by_colleagues_from_any_folder(
    settings: Make, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    shutil.copytree(dataset, project / "data" / "stickfigures")
    monkeypatch.chdir(project)
    before = os.umask(0o027)
    try:
        out = run(settings("ivlp", data={"root": ""}), Path("runs/one"))
        evaluate_run(out, device="cpu", progress=False, write=True)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (out, *out.rglob("*")) if path.is_dir()}
    assert (modes, folders) == ({0o640}, {0o750})
    whole = evaluate_run(out, device="cpu", progress=False).to_json()
    # The settings name no root, as those of earlier versions: it lies below a folder above the run.
    monkeypatch.chdir(tmp_path)
    there = Path("project/runs/one")
    assert load_run(there).settings.data.root == str(project / "data/stickfigures")
    assert evaluate_run(there, device="cpu", progress=False).to_json()["base"] == whole["base"]
    # Both moved: the record knows the way from the run to the data.
    project.rename(tmp_path / "elsewhere")
    moved = evaluate_run(tmp_path / "elsewhere/runs/one", device="cpu", progress=False)
    assert moved.to_json()["base"] == whole["base"]
