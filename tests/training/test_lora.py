"""LoRA in training: one update however it is cut, a stopped run, several processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ga2clip.compute.distributed import Group
from ga2clip.model.blocks import OpenClipBlock
from ga2clip.model.parts.lora import LowRank
from ga2clip.run import load_run
from ga2clip.training import train
from ga2clip.training.update import Updater
from tests.training.small_runs import assert_stopped_ends_as, run
from tests.training.test_distributed import _train, in_two_processes
from tests.training.test_update import NAMES, assert_cuts_are_the_same, make_batch, run_moved

Make = Callable[..., Any]
PARTS = {"lora": {"rank": 2, "alpha": 4.0, "weights": ["q", "k", "v", "o", "mlp"]}}


CUTS = {
    "micro-batches": {"micro_batch": 3},
    "class chunks": {"class_chunk": 2},
    "both": {"micro_batch": 4, "class_chunk": 1},
    "recomputed blocks": {"checkpoint_blocks": True},
    "all": {"micro_batch": 3, "class_chunk": 4, "checkpoint_blocks": True},
}


@pytest.mark.parametrize("method", ["zero-shot", "promptsrc", "ga2"])
def test_an_update_is_the_same_however_it_is_cut(settings: Make, method: str) -> None:
    assert_cuts_are_the_same(settings(method, method={"tune": "prompts"}, parts=PARTS), CUTS)


def test_changes_are_computed_once_per_update(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = LowRank.forward
    chosen = settings("ga2", parts=PARTS, training={"micro_batch": 2, "class_chunk": 2})
    updater = Updater(train.make_model(chosen, NAMES), Group(torch.device("cpu")))
    monkeypatch.setattr(LowRank, "forward", lambda self: calls.append(self) or original(self))
    updater.run(make_batch(), step=0, factor=1.0)
    assert len(calls) == len(set(calls)) == 2 * 3 * 6


def test_frozen_blocks_below_the_first_change_are_left_out_of_the_backward_pass(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA in the last of three blocks of each tower: nothing that the other blocks put out has a gradient."""
    chosen = settings("zero-shot", method={"tune": "prompts"}, parts={"lora": {"rank": 2, "layers": [3]}})
    updater = Updater(train.make_model(chosen, NAMES), Group(torch.device("cpu")))
    tracked: list[bool] = []
    original = OpenClipBlock.finish

    def finish(self: OpenClipBlock, *inputs: Any) -> torch.Tensor:
        output = original(self, *inputs)
        tracked.append(output.requires_grad)
        return output

    monkeypatch.setattr(OpenClipBlock, "finish", finish)
    updater.run(make_batch(3, 0), step=0, factor=1.0)
    text, vision = tracked[: -updater.model.backbone.vision.depth], tracked[-3:]
    assert vision == [False, False, True]
    assert sum(text) == len(text) // 3
    assert not any(text[: -len(text) // 3])


def test_bf16_leaves_the_small_changes_in_full_precision(settings: Make) -> None:
    plain = settings("zero-shot", method={"tune": "prompts"}, parts=PARTS)
    rough, exact = run_moved(plain.updated({"training": {"precision": "bf16"}}, "test")), run_moved(plain)
    assert rough[1].loss == pytest.approx(exact[1].loss, rel=0.05)
    for name, value in exact[0].items():
        assert torch.cosine_similarity(rough[0][name].flatten(), value.flatten(), dim=0) > 0.95, name


def chosen_for(settings: Make) -> Any:
    return settings("zero-shot", method={"tune": "prompts"}, parts=PARTS, training={"epochs": 3})


def test_a_stopped_training_ends_as_one_that_was_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(chosen_for(settings), tmp_path / "whole")
    assert_stopped_ends_as(whole, chosen_for(settings), tmp_path / "cut", monkeypatch, 3)
    state = load_run(whole).state()
    assert all(name.startswith("parts.lora.towers.") for name in state)
    assert all(value.abs().max() > 0 for value in state.values())


@pytest.mark.slow
def test_two_processes_train_as_one(settings: Make, tmp_path: Path) -> None:
    chosen = chosen_for(settings).updated({"training": {"micro_batch": 1}}, "test")
    _train(chosen, tmp_path / "one")
    in_two_processes(_train, chosen, tmp_path / "two")
    one, two = (load_run(tmp_path / name).state() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
