"""The action classes of the built-in datasets: verb, object and places of each.

A class is a verb, an object and the places where it happens. The base/novel split is part of the declaration:
most novel classes recombine a verb and an object that base classes use ("kicking a ball" and "lifting a box" are
base, "kicking a box" is novel), the last ones use words that no base class uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ActionClass:
    """One class.

    Attributes:
        name: plain English; what a text encoder reads.
        verb: key of `verbs.ACTIONS`.
        or_verbs: others that show the class as well; a clip shows one of all, drawn by its seed.
        thing: key of the object tables; "" where the action needs none.
        places: keys of `places.PLACES`.
        cycles: repetitions of the motion in two seconds, slowest and fastest; of motions that repeat.
        once: the motion has a beginning and an end, and fills the clip.
        backwards_of: the class whose clips these are, played backwards; "" for none.
        mirror: whether a mirrored clip shows the class as well.
        look: the drawing style of `looks`.
    """

    name: str
    verb: str
    thing: str
    places: tuple[str, ...]
    cycles: tuple[float, float] = (1.0, 2.0)
    once: bool = False
    backwards_of: str = ""
    mirror: bool = True
    look: Literal["ink", "paint"] = "ink"
    or_verbs: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name as a folder name."""
        return self.name.replace(" ", "_")


@dataclass(frozen=True)
class ClassSet:
    """The classes of a built-in dataset.

    Attributes:
        base: what tuning sees; empty where no half is declared.
        rest: all others: the novel half where there is a base one.
        flip: whether training may mirror clips.
    """

    base: tuple[ActionClass, ...]
    rest: tuple[ActionClass, ...]
    flip: bool = True

    @property
    def by_name(self) -> Mapping[str, ActionClass]:
        """Every class by its name, base ones first."""
        return {action.name: action for action in (*self.base, *self.rest)}


_BASE = (
    ActionClass("kicking a ball", "kicking", "ball", ("grass", "beach", "street")),
    ActionClass("lifting a box", "lifting", "box", ("room", "street")),
    ActionClass("lifting a barbell", "lifting", "barbell", ("gym", "stage")),
    ActionClass("carrying a ladder", "carrying", "ladder", ("street", "grass")),
    ActionClass("carrying a bucket", "carrying", "bucket", ("grass", "beach", "street")),
    ActionClass("pushing a barrel", "pushing", "barrel", ("street", "room")),
    ActionClass("pulling a sled", "pulling", "sled", ("snow",)),
    ActionClass("throwing a ball", "throwing", "ball", ("grass", "gym", "beach")),
    ActionClass("rolling a barrel", "rolling", "barrel", ("street", "grass"), (0.7, 1.5)),
    ActionClass("jumping over a fence", "jumping over", "fence", ("grass", "street")),
    ActionClass("sitting on a chair", "sitting on", "chair", ("room", "stage")),
    ActionClass("balancing a box", "balancing", "box", ("stage", "street")),
    ActionClass("climbing a ladder", "climbing", "ladder", ("street", "room")),
    ActionClass("riding a bike", "riding", "bike", ("street", "grass", "beach")),
    ActionClass("rowing a boat", "rowing", "boat", ("water",)),
    ActionClass("waving a flag", "waving", "flag", ("stage", "street", "grass")),
    ActionClass("swinging a hammer", "swinging", "hammer", ("street", "room"), (1.0, 1.6)),
    ActionClass("holding an umbrella", "holding", "umbrella", ("street", "beach", "grass")),
    ActionClass("playing a guitar", "playing", "guitar", ("stage", "room")),
    ActionClass("walking a dog", "walking", "dog", ("grass", "street", "snow")),
)

_NOVEL = (
    ActionClass("kicking a box", "kicking", "box", ("street", "room")),
    ActionClass("kicking a bucket", "kicking", "bucket", ("grass", "room")),
    ActionClass("lifting a barrel", "lifting", "barrel", ("street", "gym")),
    ActionClass("carrying a box", "carrying", "box", ("room", "street", "grass")),
    ActionClass("carrying a chair", "carrying", "chair", ("room", "stage")),
    ActionClass("pushing a sled", "pushing", "sled", ("snow",)),
    ActionClass("pulling a box", "pulling", "box", ("street", "grass")),
    ActionClass("throwing a hammer", "throwing", "hammer", ("grass", "gym")),
    ActionClass("jumping over a barrel", "jumping over", "barrel", ("street", "gym")),
    ActionClass("sitting on a box", "sitting on", "box", ("street", "room")),
    ActionClass("balancing a ball", "balancing", "ball", ("stage", "beach")),
    ActionClass("climbing a fence", "climbing", "fence", ("grass", "street")),
    ActionClass("waving an umbrella", "waving", "umbrella", ("beach", "stage")),
    ActionClass("riding a horse", "riding", "horse", ("grass", "beach", "snow")),
    ActionClass("playing a drum", "playing", "drum", ("stage", "street")),
    ActionClass("flying a kite", "flying", "kite", ("beach", "grass")),
    ActionClass("skipping a rope", "skipping", "rope", ("gym", "street", "grass")),
    ActionClass("punching a bag", "punching", "bag", ("gym", "room")),
    ActionClass("sweeping the floor", "sweeping", "floor", ("room", "street", "stage")),
    ActionClass("turning a cartwheel", "turning", "cartwheel", ("gym", "grass", "beach"), (0.8, 1.4)),
)

_OTHER = (
    ActionClass("hanging from a bar", "hanging from", "bar", ("gym", "grass")),
    ActionClass("crawling under a table", "crawling under", "table", ("room", "stage")),
    ActionClass("spinning a hoop", "spinning", "hoop", ("gym", "stage", "beach")),
    ActionClass("shooting an arrow", "shooting", "arrow", ("grass", "snow")),
    ActionClass("digging a hole", "digging", "hole", ("grass", "beach", "snow")),
    ActionClass("watering a plant", "watering", "plant", ("grass", "room")),
    ActionClass("sawing a log", "sawing", "log", ("grass", "snow", "room")),
    ActionClass("blowing a trumpet", "blowing", "trumpet", ("stage", "street")),
    ActionClass("stirring a pot", "stirring", "pot", ("room", "grass")),
    ActionClass("reading a newspaper", "reading", "newspaper", ("room", "street", "beach")),
    ActionClass("painting a wall", "painting", "wall", ("room", "street")),
    ActionClass("standing on a skateboard", "standing on", "skateboard", ("street", "gym")),
    ActionClass("driving a car", "driving", "car", ("street", "snow", "beach")),
    ActionClass("bouncing on a trampoline", "bouncing on", "trampoline", ("gym", "grass")),
    ActionClass("juggling balloons", "juggling", "balloon", ("stage", "beach")),
    ActionClass("taking a bow", "taking", "bow", ("stage", "room")),
)

BASE_CLASSES: tuple[str, ...] = tuple(c.name for c in _BASE)
"""The classes that tuning sees."""

NOVEL_CLASSES: tuple[str, ...] = tuple(c.name for c in _NOVEL)
"""The classes that tuning never sees."""

CLASSES: tuple[str, ...] = BASE_CLASSES + NOVEL_CLASSES
"""All classes of `stickfigures`: the base ones, then the novel ones, in the order of this file."""

OTHER_CLASSES: tuple[str, ...] = tuple(c.name for c in _OTHER)
"""The classes of `stickfigures-other`: other verbs and other objects, drawn in the same style."""

ACTION_CLASSES: dict[str, ActionClass] = {c.name: c for c in _BASE + _NOVEL + _OTHER}
"""Every class of `stickfigures` and `stickfigures-other` by its name."""

STICKFIGURES = ClassSet(_BASE, _NOVEL)
"""`stickfigures`."""

STICKFIGURES_OTHER = ClassSet((), _OTHER)
"""`stickfigures-other`."""
