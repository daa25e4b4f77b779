"""`stickfigures-order`: only the order of the frames tells the two classes of a pair apart."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ga2clip.data.declaration import Size
from ga2clip.data.prepare import prepare
from ga2clip.data.stickfigures.classes import ActionClass
from ga2clip.data.stickfigures.classes_order import BASE_PAIRS, NOVEL_PAIRS, ORDER
from ga2clip.data.stickfigures.render import render_action
from ga2clip.model.backbone import Backbone
from ga2clip.model.load_backbone import load_backbone
from ga2clip.settings import BackboneSettings

PAIRS = BASE_PAIRS + NOVEL_PAIRS
ONE_OF_EACH_VERB = tuple({pair[0].verb: pair for pair in PAIRS}.values())
FRAMES, CLIPS = 4, 12


def _id(pair: tuple[ActionClass, ActionClass]) -> str:
    return pair[0].name


def test_each_half_has_ten_whole_pairs() -> None:
    assert len(BASE_PAIRS) == len(NOVEL_PAIRS) == 10
    assert ORDER.base == tuple(action for pair in BASE_PAIRS for action in pair)
    assert ORDER.rest == tuple(action for pair in NOVEL_PAIRS for action in pair)
    assert len(ORDER.by_name) == 40


def test_novel_pairs_do_what_base_pairs_do_with_other_things() -> None:
    assert {pair[0].verb for pair in NOVEL_PAIRS} == {pair[0].verb for pair in BASE_PAIRS}
    assert not {pair[0].thing for pair in NOVEL_PAIRS} & {pair[0].thing for pair in BASE_PAIRS}


@pytest.mark.parametrize("pair", PAIRS, ids=_id)
def test_a_clip_of_one_class_is_a_clip_of_the_other_backwards(pair: tuple[ActionClass, ActionClass]) -> None:
    forward, backward = (render_action(action, 3, frames=8) for action in pair)
    assert np.array_equal(forward, backward[::-1])
    moved = np.abs(forward[0].astype(int) - forward[-1]).max(axis=2) > 40
    assert moved.sum() > 50, "beginning and end look the same"


def test_who_goes_to_the_right_is_further_right_at_the_end_for_every_seed() -> None:
    forward, backward = next(pair for pair in PAIRS if pair[0].name == "walking to the right")

    def centre(frame: np.ndarray, still: np.ndarray) -> float:
        return float(np.nonzero(np.abs(frame.astype(int) - still).max(axis=2) > 60)[1].mean())

    for seed in range(6):
        for action, sign in ((forward, 1), (backward, -1)):
            clip = render_action(action, seed, frames=8)
            still = np.median(clip, axis=0)
            assert sign * (centre(clip[-1], still) - centre(clip[0], still)) > 15


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Normalised features of `tiny`, (pairs, 2, CLIPS, FRAMES, D): no actor plays both classes of a pair."""
    backbone: Backbone = load_backbone(BackboneSettings())
    clips = [
        render_action(action, seed + 1000 * side, frames=FRAMES)
        for pair in ONE_OF_EACH_VERB
        for side, action in enumerate(pair)
        for seed in range(CLIPS)
    ]
    pixels = backbone.preprocess.normalise(backbone.preprocess.frames(np.concatenate(clips)))
    with torch.no_grad():
        encoded = torch.nn.functional.normalize(backbone.vision(torch.from_numpy(pixels)), dim=-1)
    return encoded.view(len(ONE_OF_EACH_VERB), 2, CLIPS, FRAMES, -1).numpy()


def _nearest_mean(videos: np.ndarray) -> float:
    """Accuracy within pairs, each clip (pairs, 2, CLIPS, D) classified by the means of all others."""
    right = []
    for pair in videos:
        for side in (0, 1):
            for clip in range(CLIPS):
                means = [np.delete(pair[k], clip, axis=0).mean(axis=0) for k in (0, 1)]
                distances = [np.linalg.norm(pair[side, clip] - mean) for mean in means]
                right.append(distances[side] < distances[1 - side])
    return float(np.mean(right))


def test_the_mean_over_frames_is_at_chance_and_their_order_is_not(features: np.ndarray) -> None:
    half = FRAMES // 2
    trend = features[..., half:, :].mean(axis=-2) - features[..., :half, :].mean(axis=-2)
    elsewhere = [
        pair[0].verb != "to the right" for pair in ONE_OF_EACH_VERB
    ]  # tiny hardly sees where somebody is
    assert 0.35 < _nearest_mean(features.mean(axis=-2)) < 0.65  # 144 clips: 0.5 ± 0.08
    assert _nearest_mean(trend[elsewhere]) > 0.85


def test_prepared_it_declares_its_halves_and_that_nothing_may_be_mirrored(tmp_path: Path) -> None:
    manifest = prepare("stickfigures-order", tmp_path, workers=1, size=Size(1, 0, 0)).manifest
    assert manifest.base_classes == tuple(action.name for action in ORDER.base)
    assert manifest.meta["flip"] is False
    actors = {clip.label: clip.group for clip in manifest.clips}
    assert all(actors[forward.name] != actors[backward.name] for forward, backward in PAIRS)
