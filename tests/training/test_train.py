"""Whole trainings on a few tiny videos: what a run holds, and what is said and refused."""

import json
import logging
import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.evaluation.evaluate import evaluate_all, evaluate_run
from ga2clip.run import load_run, read_metrics
from ga2clip.settings import Settings
from ga2clip.training import progress, train
from ga2clip.training.curves import draw_curves
from tests.training.small_runs import assert_same_run, run

Make = Callable[..., Settings]


def test_a_run_holds_all_that_repeats_it(settings: Make, tmp_path: Path) -> None:
    chosen = settings()
    out = run(chosen, tmp_path / "run")
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "settings.toml",
        "prompts.safetensors",
        "metrics.jsonl",
        "environment.json",
        "state",
    }
    again = run(train.resume_settings(out), tmp_path / "again")
    assert train.resume_settings(out) == chosen
    assert_same_run(out, again)
    assert not list(out.rglob(".*"))  # no temporary file is left
    loaded = load_run(out)
    assert loaded.meta["step"] == 4
    assert list(loaded.classes) == ["waving a flag", "kicking a ball"]
    assert json.loads((out / "environment.json").read_text())["packages"]["torch"]


def test_curves_are_drawn(settings: Make, tmp_path: Path) -> None:
    out = run(settings(), tmp_path / "run")
    path = draw_curves(out)
    assert path == out / "curves.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    (out / "metrics.jsonl").write_text("")
    assert draw_curves(out) is None


def test_the_loaded_model_is_the_trained_one(settings: Make, tmp_path: Path) -> None:
    out = run(settings(), tmp_path / "run")
    untrained = train.make_model(settings(), ("waving a flag", "kicking a ball"))
    loaded = load_run(out).model()
    names = ["riding a bike", "something new"]
    with torch.no_grad():
        assert not torch.allclose(loaded.encode_classes(names), untrained.eval().encode_classes(names))
    assert not loaded.training


def test_training_learns(settings: Make, tmp_path: Path) -> None:
    chosen = settings("zero-shot", method={"tune": "both"}, training={"epochs": 10, "backbone_lr": 1e-3})
    out = run(chosen, tmp_path / "run")
    lines = read_metrics(out)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {"step", "epoch", "lr", "loss", "cross_entropy", "accuracy"} <= lines[0].keys()
    assert "cross_entropy" in train.result_table(out)


def test_a_loader_process_that_dies_says_what_to_lower(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ga2clip.data.reader import ClipReader

    monkeypatch.setattr(ClipReader, "training_clip", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="a loader process ended") as caught:
        run(settings(training={"workers": 2}), tmp_path / "run")
    assert "training.workers=1 (now 2)" in (caught.value.hint or "")


def test_out_of_memory_before_the_first_step(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("ga2clip.training.update.Updater.rehearse", no_memory)
    with pytest.raises(UserError, match="out of memory on cpu while the cost") as caught:
        run(settings(), tmp_path / "run")
    assert "training.micro_batch" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_the_bar_shows_what_a_person_watches(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = []
    original = progress.tqdm.set_postfix

    def watched(self: Any, ordered: dict[str, str], **options: Any) -> None:
        shown.append(ordered)
        original(self, ordered, **options)

    monkeypatch.setattr(progress.tqdm, "set_postfix", watched)
    run(settings(), tmp_path / "run")
    assert shown[-1].keys() == {"epoch", "loss", "cross_entropy", "anchor", "acc", "lr", "clips/s"}
    assert float(shown[-1]["clips/s"]) > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full")
def test_metrics_on_a_full_disk_are_one_clear_error(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that did not fit must not fail once more, as something else, when the file is closed."""
    monkeypatch.setattr(progress, "_reopen", lambda *_: Path("/dev/full").open("a"))  # noqa: SIM115 (recorder closes)
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: No space left") as caught:
        run(settings(), tmp_path / "run")
    assert "free some space" in (caught.value.hint or "")


def test_out_of_memory_says_what_to_lower(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr("ga2clip.training.update.Updater._backward", no_memory)
    with pytest.raises(UserError, match="out of memory on cpu in step 1") as caught:
        run(settings(), tmp_path / "run")
    assert "training.micro_batch=2 (now 4 clips)" in (caught.value.hint or "")


def test_an_occupied_folder_is_refused_and_left_alone(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        run(settings(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    out = run(settings(training={"epochs": 0}), tmp_path / "run")
    with pytest.raises(UserError, match="already holds a run"):
        run(settings(), out)


def test_nothing_is_written_when_the_data_is_missing(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(settings(data={"root": str(tmp_path / "nowhere")}), tmp_path / "run")
    assert "ga2clip prepare" in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_a_frozen_tower_is_encoded_once(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ga2clip.model.video_clip import VideoCLIP

    calls = []
    original = VideoCLIP.encode_video

    def counted(self: VideoCLIP, video: torch.Tensor, *prompts: Any) -> torch.Tensor:
        calls.append(len(video))
        return original(self, video, *prompts)

    monkeypatch.setattr(VideoCLIP, "encode_video", counted)
    run(settings("coop", training={"epochs": 5}), tmp_path / "cached")
    assert sum(calls) <= 8 + 2  # the 8 training clips, and those of the estimate
    calls.clear()
    run(settings("coop", training={"epochs": 5, "cache_features": False}), tmp_path / "not")
    assert sum(calls) >= 5 * 8
    # Augmentation is off in these settings, so both see the evaluation's frames or the random ones of training.
    assert read_metrics(tmp_path / "cached")[-1]["loss"] < read_metrics(tmp_path / "cached")[0]["loss"]


def test_loader_processes_live_through_the_training_and_change_nothing(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ga2clip.data import loader

    made = []
    original = loader.DataLoader

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(options["num_workers"])
        return original(*arguments, **options)

    monkeypatch.setattr(loader, "DataLoader", counted)
    augmented = {"augment": {"scale_min": 0.3, "flip": 0.5}}
    alone = run(settings(**augmented, training={"epochs": 3}), tmp_path / "alone")
    with_workers = run(settings(**augmented, training={"epochs": 3, "workers": 2}), tmp_path / "workers")
    assert made == [0, 2]
    assert_same_run(alone, with_workers)


def test_zero_shot_makes_a_run_without_training(settings: Make, tmp_path: Path) -> None:
    out = run(settings("zero-shot"), tmp_path / "run")
    assert load_run(out).state() == {}
    assert train.result_table(out) == ""
    report = evaluate_run(out, device="cpu", progress=False)
    assert set(report.to_json()) >= {"protocol", "base", "novel", "harmonic_mean"}


def test_the_summary_says_what_trains_and_touches_nothing(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = train.summary(settings(), device="cpu")
    assert "trains    9,792 parameters" in text
    for part in (
        "parts.coupling.mapping.weight 64 × 128",
        "frozen",
        "estimate",
        "2 epochs of 2 updates",
        "GiB",
    ):
        assert part in text
    assert list(tmp_path.iterdir()) == []


def test_each_epoch_says_how_long_it_waited(
    settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ga2clip"):
        run(settings(), tmp_path / "run")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch")]
    assert len(lines) == 2
    assert "waiting for data" in lines[0]


def test_interpolation_is_between_the_original_and_the_tuned(settings: Make, tmp_path: Path) -> None:
    tuned = settings("zero-shot", method={"tune": "vision"}, training={"epochs": 2, "backbone_lr": 1e-3})
    whole = run(tuned, tmp_path / "whole")
    half = run(tuned.updated({"method": {"interpolate": 0.5}}, "test"), tmp_path / "half")
    original = train.make_model(tuned, ("a", "b")).trainable_state()
    for name, value in load_run(whole).state().items():
        assert torch.allclose(load_run(half).state()[name], (value + original[name]) / 2, atol=1e-6), name


def test_evaluation_of_all_protocols_and_its_files(settings: Make, tmp_path: Path) -> None:
    out = run(settings(), tmp_path / "run")
    halves, everything = evaluate_all(out, device="cpu", progress=False)
    assert [part.name for part in halves.sets] == ["base", "novel"]
    assert [len(part.classes) for part in everything.sets] == [4]
    assert everything.to_json()["test"]["n"] == 8
    tree = evaluate_run(out, device="cpu", progress=False).to_json()
    assert tree["base"].keys() >= {"top1", "top5", "n", "ece", "ece_interval", "brier", "brier_interval"}
    assert tree["harmonic_mean"] == halves.harmonic_mean
    halves.write(tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.json", "per_class.csv", "clips.csv", "confusion.png", "reliability.png"}
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == halves.to_json()
    assert len((tmp_path / "report" / "per_class.csv").read_text().splitlines()) == 1 + 4


def test_tensorboard_is_an_extra(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="tensorboard"):
        run(settings(training={"tensorboard": True}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_every_step(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the extra, with the part of its interface that is used."""
    seen: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder.startswith(str(tmp_path))
            assert purge_step == 1

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen.append((name, float(value), step))

        def close(self) -> None:
            seen.append(("closed", 0, 0))

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    out = run(settings(training={"tensorboard": True}), tmp_path / "run")
    losses = [(step, value) for name, value, step in seen if name == "loss"]
    assert losses == [(line["step"], line["loss"]) for line in read_metrics(out)]
    assert {name for name, *_ in seen} >= {"time/waiting_share", "closed"}


@pytest.mark.parametrize(("coupling", "warned"), [("mapping", True), ("residual", False), ("gated", False)])
def test_too_few_updates_for_a_mapping_layer_are_said(
    coupling: str, warned: bool, settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(settings(method={"coupling": coupling}, training={"epochs": 1}), tmp_path / "run")
    assert ("2 updates may be too few" in caplog.text) == warned
