"""`stickfigures-narrow`: base classes show little, in the style that `tiny` knows; novel ones need something else."""

import numpy as np
import open_clip
import pytest
import torch

from ga2clip.data.stickfigures.classes_narrow import NARROW
from ga2clip.data.stickfigures.places import PLACES
from ga2clip.data.stickfigures.render import render_action
from ga2clip.data.stickfigures.verbs import ACTIONS
from ga2clip.model.load_backbone import load_backbone
from ga2clip.settings import BackboneSettings


def test_base_classes_differ_by_a_thing_and_novel_ones_by_what_is_done() -> None:
    assert len(NARROW.base) == len(NARROW.rest) == 20
    assert len({action.thing for action in NARROW.base}) == 20
    assert len({action.thing for action in NARROW.rest}) == 2
    assert len({action.verb for action in NARROW.rest}) == 10
    assert not {action.thing for action in NARROW.base} & {action.thing for action in NARROW.rest}
    assert len({action.places for action in NARROW.by_name.values()}) == 1  # no place tells anything


def test_clips_of_a_base_class_show_what_tells_novel_classes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ball is used in all ten ways, one in each clip; a clip of a novel class shows that class's own."""
    shown: list[str] = []
    recording = {
        name: lambda *a, n=name, f=action: shown.append(n) or f(*a) for name, action in ACTIONS.items()
    }
    monkeypatch.setattr("ga2clip.data.stickfigures.render.ACTIONS", recording)
    ball = NARROW.by_name["a person with a ball"]
    for seed in range(60):
        before = len(shown)
        render_action(ball, seed, frames=2)
        assert len(set(shown[before:])) == 1
    assert set(shown) == {action.verb for action in NARROW.rest}
    shown.clear()
    render_action(NARROW.by_name["rolling a wheel"], 1, frames=2)
    assert set(shown) == {"rolling"}


@pytest.mark.parametrize("action", NARROW.by_name.values(), ids=NARROW.by_name)
def test_every_class_is_painted_and_moves(action) -> None:  # type: ignore[no-untyped-def]
    assert action.look == "paint"
    assert action.verb in ACTIONS
    assert set(action.places) <= set(PLACES)
    clip = render_action(action, 3, frames=4)
    assert np.array_equal(clip, render_action(action, 3, frames=4))
    assert (np.abs(clip[0].astype(int) - clip[3]).max(axis=2) > 40).sum() > 5


def test_the_backbone_knows_the_style_so_there_is_something_to_forget() -> None:
    backbone = load_backbone(BackboneSettings())
    halves = []
    for half in (NARROW.base, NARROW.rest):
        frames = np.concatenate([render_action(a, 500 + k, frames=4) for a in half for k in range(2)])
        ids = open_clip.tokenize([f"a video of a person doing {a.name}." for a in half])[:, 1:]
        with torch.no_grad():
            pixels = torch.from_numpy(backbone.preprocess.normalise(backbone.preprocess.frames(frames)))
            videos = (
                torch.nn.functional.normalize(backbone.vision(pixels), dim=-1).view(40, 4, -1).mean(dim=1)
            )
            texts = torch.nn.functional.normalize(backbone.text(ids), dim=-1)
        truth = torch.arange(20).repeat_interleave(2)
        halves.append(float(((videos @ texts.T).argmax(dim=1) == truth).float().mean()))
    base, novel = halves
    assert halves == pytest.approx([28 / 40, 29 / 40], abs=1.01 / 40)  # one clip may be a matter of rounding
    assert base > 0.6
    assert novel > 0.7  # on `stickfigures`, with the other style, 0.65
