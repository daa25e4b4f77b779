"""The summary before a training: its estimate counts what runs in every update."""

from collections.abc import Callable

import pytest

from ga2clip.data.protocols import load_task
from ga2clip.model.load_backbone import load_backbone
from ga2clip.model.video_clip import build_model
from ga2clip.settings import Settings
from ga2clip.training.estimate import Cost
from ga2clip.training.loop import Plan
from ga2clip.training.schedule import Stages
from ga2clip.training.summary import describe


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
