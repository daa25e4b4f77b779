"""Picture–caption pairs for pre-training: uint8 (72, 72, 3) RGB pictures with captions, from a seed.

The pictures show the dataset's verbs, objects and places and many other combinations of them, in another drawing
style: people are filled silhouettes with thick limbs and clothes, things are filled without outlines, colours are
strong and the ground is textured. That gap is what tuning on the dataset closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ga2clip.data.stickfigures.empty import EMPTY_KINDS, EMPTY_WORDS, empty_strokes
from ga2clip.data.stickfigures.looks import paint_style, solid_body
from ga2clip.data.stickfigures.motion import shot_strokes
from ga2clip.data.stickfigures.objects import FIXED, HELD, LOOSE
from ga2clip.data.stickfigures.places import PLACES
from ga2clip.data.stickfigures.strokes import (
    SUPERSAMPLING,
    Frame,
    Image,
    Stroke,
    paint,
    place,
    shrink,
    view,
)
from ga2clip.data.stickfigures.verbs import ACTIONS
from ga2clip.labels import SCENARIO_TEMPLATE

SIZE = 72
"""Side of a picture in pixels."""

_TABLE = {**FIXED, **HELD, **LOOSE}
_PORTABLE = tuple(sorted(LOOSE))
_LOOSE_VERBS = (
    "kicking",
    "lifting",
    "carrying",
    "pushing",
    "pulling",
    "throwing",
    "jumping over",
    "sitting on",
    "balancing",
    "rolling",
    "juggling",
    "standing by",
)
_OTHER_VERBS: dict[str, tuple[str, ...]] = {
    "jumping over": ("fence",),
    "waving": ("flag", "umbrella", "torch", "racket", "hand"),
    "holding": ("flag", "umbrella", "torch", "racket", "hammer"),
    "swinging": ("hammer", "racket", "torch", "flag"),
    "playing": ("guitar", "drum", "piano"),
    "sweeping": ("floor",),
    "digging": ("hole",),
    "shooting": ("arrow",),
    "watering": ("plant",),
    "sawing": ("log",),
    "blowing": ("trumpet",),
    "stirring": ("pot",),
    "fishing": ("",),
    "reading": ("newspaper",),
    "painting": ("wall",),
    "riding": ("bike", "horse", "elephant", "scooter", "sled"),
    "standing on": ("skateboard",),
    "driving": ("car",),
    "rowing": ("boat", "raft"),
    "climbing": ("ladder", "rope", "pole", "fence"),
    "walking": ("dog", "cow"),
    "flying": ("kite",),
    "punching": ("bag",),
    "hanging from": ("bar",),
    "crawling under": ("table",),
    "bouncing on": ("trampoline",),
    "skipping": ("rope",),
    "spinning": ("hoop",),
    "running": ("",),
    "strolling": ("",),
    "doing a handstand": ("",),
    "turning": ("cartwheel",),
    "taking": ("bow",),
    "doing push-ups": ("",),
    "doing star jumps": ("",),
    "dancing": ("",),
    "standing still": ("",),
    "lying down": ("",),
}
SCENES: tuple[tuple[str, str], ...] = tuple(
    [(verb, thing) for verb in _LOOSE_VERBS for thing in _PORTABLE]
    + [
        (verb, thing)
        for verb, things in _OTHER_VERBS.items()
        for thing in things
        for _ in range(4 if thing else 3)
    ]
)
"""Verb–object pairs that pictures are drawn from; repeated pairs come more often."""

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "on the grass", "in a meadow", "in the park"),
    "gym": ("in a gym", "in the gym"),
    "water": ("on the water", "by the water", "on a lake"),
    "street": ("in the street", "on a street", "in a city"),
    "room": ("in a room", "in the room", "indoors"),
    "snow": ("in the snow", "on snow", "in winter"),
    "stage": ("on a stage", "on stage", "in a theatre"),
    "beach": ("on the beach", "on a beach", "at the sea"),
}
_WHO = ("a person", "a person", "a person", "somebody", "someone", "a man", "a woman", "a human", "a figure")
_MEDIUM = (
    "a photo of",
    "a picture of",
    "an image of",
    "a drawing of",
    "a video of",
    "a clip of",
    "a frame of",
)
_NOBODY = (
    "nobody",
    "no person",
    "no action",
    "nothing",
    "none of the actions",
    "no people here",
    "a scene without people",
    "something else",
    "an irrelevant video",
    "a video without a person",
    "a video of no person",
)


@dataclass(frozen=True)
class Pair:
    """A picture and its caption.

    Attributes:
        picture: uint8 (72, 72, 3), RGB.
        caption: what is to be seen.
        verb: what somebody does; "" when nobody is there.
        thing: with what, or "". Without a verb: what is there in words, "" if the caption only says "nobody".
    """

    picture: Image
    caption: str
    verb: str
    thing: str


def with_article(thing: str) -> str:
    """ "a ball", "an umbrella", "the floor"."""
    if thing == "floor":
        return "the floor"
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def action_phrase(verb: str, thing: str, *, plural: bool = False) -> str:
    """A verb and its object as an English phrase, such as "kicking a ball" or "juggling balls"."""
    if not thing:
        return verb
    if plural:
        return f"{verb} {thing}{'es' if thing.endswith('x') else 's'}"
    return f"{verb} {with_article(thing)}"


def caption_action(rng: np.random.Generator, verb: str, thing: str, where: str) -> str:
    """A caption of a picture with a person; varied wording, sometimes with the place, sometimes with less.

    `where` is a key of `PLACE_PHRASES`, or "" where no place is to be seen.
    """
    phrase = action_phrase(verb, thing, plural=verb == "juggling" and rng.random() < 0.7)
    who = str(rng.choice(_WHO))
    place_words = f" {rng.choice(PLACE_PHRASES[where])}" if where and rng.random() < 0.35 else ""
    kind = rng.random()
    if kind < 0.25:
        return SCENARIO_TEMPLATE.format(phrase + place_words)
    if kind < 0.45:
        return f"a video of a person {phrase}{place_words}."
    if kind < 0.65:
        return f"{rng.choice(_MEDIUM)} {who} {phrase}{place_words}."
    if kind < 0.8:
        return f"{who} {phrase}{place_words}"
    if kind < 0.95 or not thing:
        return f"{phrase}{place_words}"
    return f"{rng.choice(_MEDIUM)} {who} with {with_article(thing)}{place_words}"


def caption_nobody(rng: np.random.Generator, words: str) -> tuple[str, str]:
    """A caption of a picture without a person (what there is, or that there is nobody), and its `Pair.thing`."""
    kind = rng.random()
    if kind < 0.45:
        return f"{rng.choice(_MEDIUM)} {words}", words
    if kind < 0.7:
        return words, words
    return str(rng.choice(_NOBODY)), ""


def _texture(rng: np.random.Generator, picture: Image) -> Image:
    """A painted picture with soft blotches of light and some grain."""
    blotches = rng.normal(0.0, rng.uniform(0, 8), (6, 6, 3)).astype(np.float32)
    light = cv2.resize(blotches, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    light = light + rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * rng.uniform(0, 6)
    return np.clip(picture + light, 0, 255).astype(np.uint8)


def _draw(rng: np.random.Generator, layers: list[Stroke]) -> Image:
    side = SIZE * SUPERSAMPLING
    style = paint_style(rng)
    canvas = np.full((side, side, 3), style.palette["sky"], np.uint8)
    pan = (float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.05, 0.05)))
    scale, origin = view(canvas, width=float(rng.uniform(1.5, 1.7)), pan=pan)
    paint(canvas, layers, style, scale, origin)
    return _texture(rng, shrink(canvas))


def action_pair(rng: np.random.Generator, verb: str, thing: str) -> Pair:
    """A person who does something, somewhere."""
    where = str(rng.choice(sorted(PLACES)))
    shot = ACTIONS[verb](float(rng.random()), thing)
    stage = Frame(scale=float(rng.uniform(0.9, 1.08)), mirror=bool(rng.random() < 0.5))
    strokes = place(shot_strokes(shot, solid_body(rng)), stage)
    backdrop = PLACES[where](rng) if rng.random() < 0.85 else []
    caption = caption_action(rng, verb, thing, where if backdrop else "")
    return Pair(_draw(rng, [*backdrop, *strokes]), caption, verb, thing)


def empty_pair(rng: np.random.Generator) -> Pair:
    """A picture without a person: an object alone, an empty place, shapes, weather, a pattern or letters."""
    if rng.random() < 0.5:
        name = str(rng.choice(sorted(_TABLE)))
        where = str(rng.choice(sorted(PLACES)))
        spot = Frame(
            float(rng.uniform(-0.2, 0.2)), 0.25, float(rng.uniform(-0.4, 0.4)), float(rng.uniform(0.8, 1.6))
        )
        strokes = [*(PLACES[where](rng) if rng.random() < 0.5 else []), *place(_TABLE[name].strokes, spot)]
        words = with_article(name)
    else:
        strokes, words = empty_strokes(rng, str(rng.choice(EMPTY_KINDS)))
    picture = _draw(rng, strokes)
    caption, seen = caption_nobody(rng, words)
    return Pair(picture, caption, "", seen)


def pairs(seed: Sequence[int], *, empty: float = 0.12) -> Iterator[Pair]:
    """An endless, repeatable stream of pairs.

    Args:
        seed: decides everything.
        empty: share of pictures without a person.
    """
    rng = np.random.default_rng(seed)
    while True:
        if rng.random() < empty:
            yield empty_pair(rng)
        else:
            verb, thing = SCENES[int(rng.integers(len(SCENES)))]
            yield action_pair(rng, verb, thing)


def vocabulary() -> list[str]:
    """Texts that hold every word which captions can use (order and repetitions have no meaning)."""
    phrases = [
        action_phrase(verb, thing, plural=plural) for verb, thing in SCENES for plural in (False, True)
    ]
    things = [with_article(name) for name in _TABLE]
    places = [phrase for options in PLACE_PHRASES.values() for phrase in options]
    return [*phrases, *things, *places, *_WHO, *_MEDIUM, *_NOBODY, *EMPTY_WORDS, "doing with ."]
