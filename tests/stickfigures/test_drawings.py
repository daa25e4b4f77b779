"""Drawings of the built-in dataset: what a class name and a seed promise."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest

from ga2clip.data.stickfigures import BASE_CLASSES, CLASSES, NOVEL_CLASSES, OTHER_CLASSES
from ga2clip.data.stickfigures.classes import ACTION_CLASSES
from ga2clip.data.stickfigures.empty import EMPTY_KINDS
from ga2clip.data.stickfigures.places import PLACES
from ga2clip.data.stickfigures.render import render_clip, render_empty
from ga2clip.data.stickfigures.verbs import ACTIONS
from ga2clip.errors import UserError


def _words(names: tuple[str, ...]) -> tuple[set[str], set[str]]:
    return {ACTION_CLASSES[n].verb for n in names}, {ACTION_CLASSES[n].thing for n in names}


def test_half_of_the_classes_is_base_and_half_is_novel() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 40
    assert len(BASE_CLASSES) == len(NOVEL_CLASSES) == 20
    assert set(BASE_CLASSES) | set(NOVEL_CLASSES) == set(CLASSES)


def test_novel_classes_recombine_base_words_and_bring_some_of_their_own() -> None:
    verbs, things = _words(BASE_CLASSES)
    novel = [ACTION_CLASSES[name] for name in NOVEL_CLASSES]
    assert sum(c.verb in verbs and c.thing in things for c in novel) >= 10
    assert sum(c.verb not in verbs and c.thing not in things for c in novel) >= 4


def test_the_other_dataset_shares_no_verb_and_no_object() -> None:
    verbs, things = _words(CLASSES)
    other_verbs, other_things = _words(OTHER_CLASSES)
    assert not verbs & other_verbs
    assert not things & other_things


@pytest.mark.parametrize("name", ACTION_CLASSES)
def test_every_class_moves_and_has_a_scene(name: str) -> None:
    action = ACTION_CLASSES[name]
    assert action.verb in ACTIONS
    assert set(action.places) <= set(PLACES)
    clip = render_clip(name, 3, frames=6)
    assert clip.shape == (6, 96, 128, 3)
    assert clip.dtype == np.uint8
    assert clip.std() > 8, "the picture is empty"
    for before, after in pairwise(clip):
        moved = np.abs(before.astype(int) - after).max(axis=2) > 40
        assert moved.sum() > 5, "nothing moves"


@pytest.mark.parametrize("kind", EMPTY_KINDS)
def test_irrelevant_clips_change_over_time(kind: str) -> None:
    clip = render_empty(kind, 3)
    assert clip.shape == (24, 96, 128, 3)
    assert np.abs(clip[0].astype(int) - clip[12]).mean() > 0.5


def test_a_seed_means_the_same_pixels_and_another_seed_other_ones() -> None:
    hashes = [hashlib.sha256(render_clip("riding a bike", seed).tobytes()).hexdigest() for seed in (5, 5, 6)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_actors_of_one_seed_differ_between_classes() -> None:
    assert not np.array_equal(render_clip("kicking a ball", 1)[0], render_clip("kicking a box", 1)[0])


def test_the_first_datasets_keep_their_pixels() -> None:
    """Recorded before other datasets came: what was measured on these stays comparable."""
    digest = hashlib.sha256()
    for name in ACTION_CLASSES:
        digest.update(render_clip(name, 11, frames=4).tobytes())
    for kind in EMPTY_KINDS:
        digest.update(render_empty(kind, 11, frames=4).tobytes())
    assert digest.hexdigest() == "c303ddb46fdf5910778b0ae9ee641f9e72ae5e8cd1525acb9374279f0304ef6b"


def test_an_unknown_class_gets_the_nearest_one_offered() -> None:
    with pytest.raises(UserError) as caught:
        render_clip("kicking a bal", 0)
    assert "kicking a ball" in str(caught.value.hint)
