"""The classes of `stickfigures-narrow`, on which tuning can forget.

They are drawn as the pictures were that `tiny` was pre-trained on, so no drawing style has to be learned. Base classes
are narrow: somebody walks or stands with a thing in a room, and only the thing tells them apart. Novel classes need
what tuning has no use for: what somebody does with two other things, anywhere.
"""

from __future__ import annotations

from ga2clip.data.stickfigures.classes import ActionClass, ClassSet

_WITH: dict[str, tuple[str, ...]] = {
    "carrying": (
        *("ball", "balloon", "barbell", "barrel", "box", "bucket", "chair", "drum", "guitar", "hammer"),
        *("ladder", "log", "pot", "sled"),
    ),
    "holding": ("flag", "racket", "torch", "umbrella"),
    "walking": ("cow", "dog"),
}
_DONE = (
    *("balancing", "jumping over", "kicking", "lifting", "pulling"),
    *("pushing", "rolling", "sitting on", "standing by", "throwing"),
)
_TO = ("suitcase", "wheel")
_ANYWHERE = ("beach", "grass", "gym", "snow", "stage", "street")


def _class(verb: str, thing: str, places: tuple[str, ...]) -> ActionClass:
    article = "an" if thing == "umbrella" else "a"
    return ActionClass(f"{verb} {article} {thing}", verb, thing, places, look="paint")


NARROW = ClassSet(
    base=tuple(_class(verb, thing, ("room",)) for verb, things in _WITH.items() for thing in things),
    rest=tuple(_class(verb, thing, _ANYWHERE) for verb in _DONE for thing in _TO),
)
"""`stickfigures-narrow`: 20 base classes that differ by a thing, 20 novel ones that differ by what is done."""
