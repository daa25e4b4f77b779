"""Temporal pooling in training: one update however it is cut, frames cached once, a stopped run, several processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import load_run
from ga2clip.training import job
from ga2clip.training.train import make_model
from ga2clip.training.update import FeatureBatch
from tests.model.test_pooling import KINDS
from tests.training.small_runs import assert_stopped_ends_as, run
from tests.training.test_distributed import _train, in_two_processes
from tests.training.test_update import NAMES, assert_same, make_batch, run_moved

Make = Callable[..., Any]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["promptsrc", "ga2"])
def test_an_update_is_the_same_however_it_is_cut(settings: Make, method: str, kind: str) -> None:
    whole = settings(method, method={"pooling": kind})
    moments, _ = run_moved(whole)
    assert all(value.any() for name, value in moments.items() if ".pooling_" in name)
    cut = whole.updated({"training": {"micro_batch": 3, "class_chunk": 2}}, "test")
    assert_same(run_moved(cut), (moments, _))


@pytest.mark.parametrize("kind", KINDS)
def test_cached_frames_give_the_update_of_the_pixels(settings: Make, kind: str) -> None:
    """With `kgcoop` the vision tower is frozen; the consistency term compares with the mean, which is not pooled."""
    chosen = settings("kgcoop", method={"pooling": kind}, loss={"image_consistency": 10.0})
    batch, model = make_batch(8, 0), make_model(chosen, NAMES)
    with torch.no_grad():
        pixels = batch.clip_tensor(model.preprocess, "cpu")
        frames = model.encode_frames(pixels)
    cached = FeatureBatch(frames, batch.labels, batch.ids)
    assert_same(run_moved(chosen, cached), run_moved(chosen, batch))


@pytest.mark.parametrize(("kind", "kept"), [("attention", 2), ("mean", 1)])
def test_frames_of_a_frozen_tower_are_encoded_once(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kept: int
) -> None:
    encoded, seen = [], []
    encode, pool = VideoCLIP.encode_frames, VideoCLIP.pool
    monkeypatch.setattr(
        VideoCLIP,
        "encode_frames",
        lambda self, x, *p: encoded.append(x.shape[:2].numel()) or encode(self, x, *p),
    )
    monkeypatch.setattr(VideoCLIP, "pool", lambda self, x: seen.append(x.shape[1]) or pool(self, x))
    monkeypatch.setattr(job, "estimate", lambda _: None)
    run(settings("coop", method={"pooling": kind}, training={"epochs": 3}), tmp_path / "run")
    assert sum(encoded) == 8 * 2
    assert seen == [kept] * 6


def chosen_for(settings: Make, kind: str) -> Any:
    return settings("zero-shot", method={"tune": "prompts", "pooling": kind}, training={"epochs": 3})


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_training_ends_as_one_that_was_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = run(chosen_for(settings, kind), tmp_path / "whole")
    assert_stopped_ends_as(whole, chosen_for(settings, kind), tmp_path / "cut", monkeypatch, 3)
    assert {name.split(".")[1] for name in load_run(whole).state()} == {f"pooling_{kind}"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(settings: Make, tmp_path: Path, kind: str) -> None:
    """With SGD: AdamW divides by the gradients' size, and what a gate at zero hides has gradients near rounding."""
    training = {"epochs": 3, "micro_batch": 1, "optimiser": "sgd", "lr": 0.1}
    chosen = settings("promptsrc", method={"pooling": kind}, training=training)
    _train(chosen, tmp_path / "one")
    in_two_processes(_train, chosen, tmp_path / "two")
    one, two = (load_run(tmp_path / name).state() for name in ("one", "two"))
    assert any(value.any() for name, value in one.items() if name.endswith(("gate", "output.weight")))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
