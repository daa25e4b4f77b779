"""The classes of `stickfigures-order`: pairs that differ by the order of their frames alone.

The second class of a pair shows the clips of the first one backwards. Both are in the same half, and no object of a
novel pair occurs in a base pair: what order means has to be learned on some objects and used on others.
"""

from __future__ import annotations

from ga2clip.data.stickfigures.classes import ActionClass, ClassSet

Pair = tuple[ActionClass, ActionClass]

_INSIDE = ("room", "stage", "gym")
_OUTSIDE = ("grass", "street", "beach")


def _pair(
    name: str, backwards: str, verb: str, thing: str, places: tuple[str, ...], *, mirror: bool = True
) -> Pair:
    """A class, and the one that shows its clips backwards; `{}` of a name is the object."""
    first = name.format(thing)
    shared = {"verb": verb, "thing": thing, "places": places, "once": True, "mirror": mirror}
    return (
        ActionClass(first, **shared),  # type: ignore[arg-type]
        ActionClass(backwards.format(thing), **shared, backwards_of=first),  # type: ignore[arg-type]
    )


def _sitting(thing: str) -> Pair:
    return _pair("sitting down on a {}", "standing up from a {}", "sitting down on", thing, _INSIDE)


def _picking(thing: str) -> Pair:
    return _pair("picking up a {}", "putting down a {}", "picking up", thing, _INSIDE + _OUTSIDE)


def _opening(thing: str) -> Pair:
    return _pair("opening a {}", "closing a {}", "opening", thing, _INSIDE)


def _carrying(thing: str) -> Pair:
    names = ("carrying a {} to the right", "carrying a {} to the left")
    return _pair(*names, "to the right", thing, _OUTSIDE, mirror=False)


def _throwing(thing: str) -> Pair:
    return _pair("throwing a {}", "catching a {}", "throwing once", thing, _OUTSIDE)


def _climbing(thing: str) -> Pair:
    return _pair("climbing onto a {}", "climbing down from a {}", "climbing onto", thing, _INSIDE)


BASE_PAIRS: tuple[Pair, ...] = (
    _sitting("chair"),
    _sitting("box"),
    _picking("box"),
    _picking("bucket"),
    _opening("door"),
    _opening("box"),
    _pair("walking to the right", "walking to the left", "to the right", "", _OUTSIDE, mirror=False),
    _carrying("chair"),
    _throwing("bucket"),
    _climbing("table"),
)
"""The pairs that tuning sees: (class, the same backwards)."""

NOVEL_PAIRS: tuple[Pair, ...] = (
    _sitting("barrel"),
    _sitting("suitcase"),
    _picking("ball"),
    _picking("drum"),
    _opening("window"),
    _opening("suitcase"),
    _carrying("ball"),
    _carrying("drum"),
    _throwing("ball"),
    _climbing("barrel"),
)
"""The pairs that tuning never sees."""

ORDER = ClassSet(
    base=tuple(action for pair in BASE_PAIRS for action in pair),
    rest=tuple(action for pair in NOVEL_PAIRS for action in pair),
    flip=False,
)
"""`stickfigures-order`: ten base and ten novel pairs. Left and right matter, so nothing is mirrored."""
