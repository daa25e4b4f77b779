"""The classes of `stickfigures-narrow`, on which tuning can forget.

They are drawn as the pictures were that `tiny` was pre-trained on, so no drawing style has to be learned. Base classes
are narrow: only the thing that somebody has tells them apart, and what is done with it changes from clip to clip, so
that tuning gains by looking past it. Novel classes need just that: what somebody does, with two other things.
"""

from __future__ import annotations

from ga2clip.data.stickfigures.classes import ActionClass, ClassSet

_DONE = (
    *("balancing", "jumping over", "kicking", "lifting", "pulling"),
    *("pushing", "rolling", "sitting on", "standing by", "throwing"),
)
_WITH: dict[tuple[str, ...], tuple[str, ...]] = {
    _DONE: (
        *("ball", "balloon", "barbell", "barrel", "box", "bucket", "chair", "drum", "guitar", "hammer"),
        *("ladder", "log", "pot", "sled"),
    ),
    ("holding", "swinging", "waving"): ("flag", "racket", "torch", "umbrella"),
    ("walking",): ("cow", "dog"),
}
_TO = ("suitcase", "wheel")
_ANYWHERE = ("beach", "grass", "gym", "room", "snow", "stage", "street")


def _with(thing: str, verbs: tuple[str, ...]) -> ActionClass:
    name = f"a person with {'an' if thing == 'umbrella' else 'a'} {thing}"
    return ActionClass(name, verbs[0], thing, _ANYWHERE, look="paint", or_verbs=verbs[1:])


def _doing(verb: str, thing: str) -> ActionClass:
    return ActionClass(f"{verb} a {thing}", verb, thing, _ANYWHERE, look="paint")


NARROW = ClassSet(
    base=tuple(_with(thing, verbs) for verbs, things in _WITH.items() for thing in things),
    rest=tuple(_doing(verb, thing) for verb in _DONE for thing in _TO),
)
"""`stickfigures-narrow`: 20 base classes that differ by a thing, 20 novel ones that differ by what is done."""
