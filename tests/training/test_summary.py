"""The summary before a training: its estimate counts what runs in every update."""

from collections.abc import Callable

import pytest
import torch

from ga2clip.compute.distributed import Group
from ga2clip.data.protocols import load_task
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import build_model
from ga2clip.settings import Settings
from ga2clip.training import estimate
from ga2clip.training.estimate import Cost
from ga2clip.training.loop import Plan
from ga2clip.training.schedule import Stages
from ga2clip.training.summary import describe
from ga2clip.training.update import Updater


@pytest.mark.parametrize(
    ("every", "said"), [(1, "3 anchor clips"), (2, "3 anchor clips in one of 2 updates")]
)
def test_how_often_anchors_come_is_said_and_counted(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, every: int, said: str
) -> None:
    """An update of 4 clips and, each time or every other time, 2 anchors; a clip takes 1 s, texts 3 s."""
    monkeypatch.setattr(estimate, "_measure", lambda _, clips: (3.0 + clips, 0))
    chosen = settings("ga2", anchors={"every": every})
    _, task = load_task(chosen)
    model = build_model(load_backbone(chosen.backbone), chosen, task.classes, torch.zeros(4, 64))
    cost = estimate.estimate(Updater(model, Group(torch.device("cpu"))))
    assert cost is not None
    assert cost.seconds == pytest.approx(3 + 4 + 2 / every)
    lines = describe(model, task, Plan(2, 4, Stages(())), cost, "cpu").splitlines()
    assert any(line.endswith(f"frames each, {said}") for line in lines)


@pytest.mark.parametrize(
    ("method", "cached", "said"),
    [
        ("coop", True, "8 s without loading and encoding each clip once"),
        ("coop", False, "80 s without loading"),
        ("vpt", True, "80 s without loading"),
    ],
)
def test_the_estimate_of_cached_features_has_no_vision_tower(
    settings: Callable[..., Settings], method: str, cached: bool, said: str
) -> None:
    chosen = settings(method, training={"cache_features": cached})
    _, task = load_task(chosen)
    model = build_model(load_backbone(chosen.backbone), chosen, task.classes)
    text = describe(model, task, Plan(2, 4, Stages(())), Cost(10.0, 1.0, 2**30), "cpu")
    assert f"estimate  {said}, 1.0 GiB" in text
