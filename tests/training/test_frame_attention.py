"""Frames that attend to their neighbours, in training: one update however it is cut, features of whole clips once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.model.video_clip import VideoCLIP
from ga2clip.run import load_run
from ga2clip.training import job
from ga2clip.training.features import frame_features
from ga2clip.training.train import make_model
from ga2clip.training.update import FeatureBatch
from tests.training.small_runs import assert_stopped_ends_as, run
from tests.training.test_distributed import _train, in_two_processes
from tests.training.test_update import NAMES, assert_cuts_are_the_same, assert_same, make_batch, run_moved

Make = Callable[..., Any]
NEIGHBOURS = {"frame_attention": "neighbours"}
CUTS = {
    "micro-batches": {"micro_batch": 3},
    "recomputed blocks": {"checkpoint_blocks": True},
    "all": {"micro_batch": 3, "class_chunk": 4, "checkpoint_blocks": True},
}


@pytest.mark.parametrize("method", ["promptsrc", "ga2"])
def test_an_update_is_the_same_however_it_is_cut_and_another_than_without(
    settings: Make, method: str
) -> None:
    chosen = settings(method, method=NEIGHBOURS)
    assert_cuts_are_the_same(chosen, CUTS)
    ours, plain = (run_moved(tree)[1].loss for tree in (chosen, settings(method)))
    assert abs(ours - plain) > 1e-4


def test_cached_frames_give_the_update_of_the_pixels(settings: Make) -> None:
    """The vision tower is frozen: a clip's frames are encoded once, as a clip."""
    chosen = settings("kgcoop", method=NEIGHBOURS | {"pooling": "attention"})
    batch, model = make_batch(8, 0), make_model(chosen, NAMES)
    assert model.features_suffice
    with torch.no_grad():
        frames = model.encode_frames(batch.clip_tensor(model.preprocess, "cpu"))
    assert_same(run_moved(chosen, FeatureBatch(frames, batch.labels, batch.ids)), run_moved(chosen, batch))


@pytest.mark.parametrize("attention", ["own", "neighbours"])
def test_features_are_not_cached_where_terms_need_those_without_neighbours(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attention: str
) -> None:
    """The consistency term compares with the frozen tower, whose frames see no neighbours: other features."""
    chosen = settings(
        "kgcoop",
        method={"frame_attention": attention},
        loss={"logit_consistency": 1.0},
        training={"epochs": 1},
    )
    made: list[Any] = []
    monkeypatch.setattr(job, "frame_features", lambda *given: made.append(1) or frame_features(*given))
    run(chosen, tmp_path / "run")
    assert len(made) == (attention == "own")


def test_the_cache_of_a_training_holds_features_of_whole_clips(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    encode = VideoCLIP.encode_frames
    monkeypatch.setattr(
        VideoCLIP, "encode_frames", lambda self, x, *p: seen.append(encode(self, x, *p)) or seen[-1]
    )
    cached: list[dict[str, torch.Tensor]] = []

    def keep(*given: Any) -> dict[str, torch.Tensor]:
        cached.append(frame_features(*given))
        return cached[-1]

    monkeypatch.setattr(job, "frame_features", keep)
    monkeypatch.setattr(job, "estimate", lambda _: None)
    chosen = settings("coop", method=NEIGHBOURS | {"pooling": "attention"}, training={"epochs": 2})
    run(chosen, tmp_path / "run")
    [features] = cached
    assert sum(len(part) for part in seen) == len(features) == 8  # each clip once, in one piece
    for clip in torch.cat(seen):
        assert any(torch.equal(clip, own) for own in features.values())


def chosen_for(settings: Make, **training: Any) -> Any:
    return settings("ivlp", method=NEIGHBOURS, training={"epochs": 3, **training})


def test_a_stopped_training_ends_as_one_that_was_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(chosen_for(settings), tmp_path / "whole")
    assert_stopped_ends_as(whole, chosen_for(settings), tmp_path / "cut", monkeypatch, 3)
    again = load_run(whole)
    assert again.settings.method.frame_attention == "neighbours"
    assert not again.model_and_examples()[0].independent_frames


@pytest.mark.slow
def test_two_processes_train_as_one(settings: Make, tmp_path: Path) -> None:
    chosen = chosen_for(settings, micro_batch=1)
    _train(chosen, tmp_path / "one")
    in_two_processes(_train, chosen, tmp_path / "two")
    one, two = (load_run(tmp_path / name).state() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
