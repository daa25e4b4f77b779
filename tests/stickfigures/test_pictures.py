"""Picture–caption pairs for pre-training: repeatable, and in words that classes need."""

import re
from itertools import islice

import numpy as np
import pytest

from ga2clip.data.stickfigures.classes import ACTION_CLASSES
from ga2clip.data.stickfigures.pictures import SCENES, Pair, action_phrase, pairs, vocabulary


def _words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", text)}


@pytest.fixture(scope="module")
def some() -> list[Pair]:
    return list(islice(pairs((3,)), 400))


def test_a_stream_repeats_and_streams_differ(some: list[Pair]) -> None:
    again, other = list(islice(pairs((3,)), 5)), list(islice(pairs((4,)), 5))
    for one, two, three in zip(some, again, other, strict=False):
        assert one.caption == two.caption
        assert np.array_equal(one.picture, two.picture)
        assert not np.array_equal(one.picture, three.picture)


def test_pictures_have_the_size_that_the_backbone_reads(some: list[Pair]) -> None:
    assert all(pair.picture.shape == (72, 72, 3) and pair.picture.dtype == np.uint8 for pair in some)


def test_the_vocabulary_holds_every_caption(some: list[Pair]) -> None:
    assert _words([pair.caption for pair in some]) <= _words(vocabulary())


@pytest.mark.parametrize("name", ACTION_CLASSES)
def test_captions_use_every_class_name(name: str) -> None:
    action = ACTION_CLASSES[name]
    assert (action.verb, action.thing) in SCENES
    phrases = [action_phrase(action.verb, action.thing, plural=plural) for plural in (False, True)]
    assert name in phrases


def test_nobody_is_in_some_pictures_and_captions_say_so(some: list[Pair]) -> None:
    empty = [pair for pair in some if not pair.verb]
    assert 20 < len(empty) < 100
    assert any(pair.thing == "" for pair in empty)
    assert all(pair.thing in pair.caption for pair in empty)


def test_there_are_many_more_combinations_than_classes() -> None:
    assert len(set(SCENES)) > 4 * len(ACTION_CLASSES)
