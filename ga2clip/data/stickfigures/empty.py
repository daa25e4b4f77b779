"""Scenes without a figure: their strokes in world units, and plain words for them.

They are the irrelevant clips of the dataset (anchors that belong to no class), and pictures without people for the
pre-training. `moment` in [0, 1] moves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ga2clip.data.stickfigures.objects import oval, rectangle
from ga2clip.data.stickfigures.places import PLACES
from ga2clip.data.stickfigures.strokes import Disc, Line, Point, Ring, Shape, Stroke

_WORDS: dict[str, tuple[str, ...]] = {
    "shapes": ("shapes", "moving shapes", "coloured shapes", "traffic of shapes"),
    "rain": ("rain", "falling rain", "rainy weather"),
    "snow": ("falling snow", "snowfall", "snowy weather"),
    "clouds": ("clouds", "a cloudy sky", "cloudy weather"),
    "stripes": ("stripes", "a pattern of stripes", "a striped texture", "an abstract pattern"),
    "checks": ("checks", "a pattern of checks", "a checked texture", "an abstract pattern"),
    "rings": ("rings", "a pattern of rings", "a texture of rings", "an abstract pattern"),
    "waves": ("waves", "a pattern of waves", "a texture of waves", "an abstract pattern"),
    "text": ("text", "letters", "written words", "lines of text"),
    "grass": ("an empty meadow",),
    "gym": ("an empty gym",),
    "water": ("empty water",),
    "street": ("an empty street",),
    "room": ("an empty room",),
    "snow field": ("an empty snow field",),
    "stage": ("an empty stage",),
    "beach": ("an empty beach",),
}
EMPTY_WORDS: tuple[str, ...] = tuple(words for options in _WORDS.values() for words in options)
"""Everything that `empty_strokes` may say."""

_TINTS = ("main", "second", "ink", "near", "far", "drops")


def _say(rng: np.random.Generator, what: str) -> str:
    return str(rng.choice(_WORDS[what]))


def _polygon(x: float, y: float, radius: float, corners: int, turn: float) -> list[Point]:
    angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _shapes(rng: np.random.Generator, moment: float) -> tuple[list[Stroke], str]:
    """Traffic of shapes: each moves on its own straight way."""
    strokes: list[Stroke] = []
    for _ in range(int(rng.integers(4, 10))):
        x, y, vx, vy, size, turn = rng.uniform((-0.9, 0, -0.6, -0.3, 0.06, -3), (0.9, 1.3, 0.6, 0.3, 0.22, 3))
        x, y = x + vx * (moment - 0.5), y + vy * (moment - 0.5)
        tint = str(rng.choice(_TINTS))
        corners = int(rng.integers(2, 6))
        if corners == 2:
            strokes.append(Disc(tint, (x, y), size))
        else:
            strokes.append(Shape(tint, _polygon(x, y, size, corners, turn * (1 + moment))))
    return strokes, _say(rng, "shapes")


def _weather(rng: np.random.Generator, moment: float) -> tuple[list[Stroke], str]:
    """Rain, snowfall or drifting clouds over an empty place."""
    where = str(rng.choice(sorted(PLACES)))
    strokes = PLACES[where](rng)
    kind = str(rng.choice(["rain", "snow", "clouds"]))
    drops = rng.uniform((-1.2, 0), (1.2, 1.6), (45, 2))
    if kind == "rain":
        for x, y in drops:
            y = (y - 3.2 * moment) % 1.6
            strokes.append(Line("drops", 0.014, [(x, y), (x + 0.03, y + 0.12)]))
        return strokes, _say(rng, "rain")
    if kind == "snow":
        for k, (x, y) in enumerate(drops):
            y = (y - 0.8 * moment) % 1.6
            strokes.append(Disc("near", (x + 0.05 * math.sin(6 * moment + k), y), 0.022))
        return strokes, _say(rng, "snow")
    for x, y in rng.uniform((-1, 0.8), (1, 1.3), (4, 2)):
        x = x + 0.5 * moment
        strokes += [
            Disc("near", (x + dx, y + dy), r)
            for dx, dy, r in ((-0.14, 0, 0.1), (0, 0.05, 0.14), (0.15, 0, 0.1))
        ]
    return strokes, _say(rng, "clouds")


def _pattern(rng: np.random.Generator, moment: float) -> tuple[list[Stroke], str]:
    """A texture that slides: stripes, checks, rings or waves."""
    kind = str(rng.choice(["stripes", "checks", "rings", "waves"]))
    tint = str(rng.choice(["main", "second", "ink"]))
    step = float(rng.uniform(0.12, 0.3))
    slide = step * 2 * moment
    steps = np.arange(-1.6, 1.8, step)
    if kind == "stripes":
        slope = float(rng.uniform(-1, 1))
        strokes: list[Stroke] = [
            Line(tint, step * 0.45, [(a + slide, -0.5), (a + slide + slope, 1.9)]) for a in steps
        ]
    elif kind == "checks":
        strokes = [
            Shape(tint, rectangle(a + slide, b, a + slide + step, b + step))
            for i, a in enumerate(steps)
            for j, b in enumerate(np.arange(-0.4, 1.6, step))
            if (i + j) % 2
        ]
    elif kind == "rings":
        x, y = (float(v) for v in rng.uniform((-0.5, 0.2), (0.5, 1.0)))
        strokes = [Ring(tint, step * 0.4, (x, y), r + slide % step) for r in np.arange(0.02, 1.7, step)]
    else:
        strokes = [
            Line(
                tint,
                step * 0.4,
                [(x, y + 0.3 * step * math.sin(9 * x + 6 * moment)) for x in np.arange(-1.3, 1.31, 0.1)],
            )
            for y in np.arange(-0.3, 1.7, step)
        ]
    return strokes, _say(rng, kind)


_SEGMENTS: tuple[tuple[Point, ...], ...] = (
    ((0, 0), (0, 2), (1, 2), (1, 1), (0, 1)),
    ((0, 0), (0.5, 2), (1, 0), (0.8, 0.8), (0.2, 0.8)),
    ((1, 2), (0, 2), (0, 0), (1, 0)),
    ((1, 2), (0, 2), (0, 1), (0.8, 1), (0, 1), (0, 0), (1, 0)),
    ((0, 2), (0, 0), (0, 1), (1, 1), (1, 2), (1, 0)),
    ((0, 2), (0, 0), (1, 0)),
    ((0, 0), (0, 2), (0.5, 1), (1, 2), (1, 0)),
    ((0, 2), (1, 2), (0.5, 2), (0.5, 0)),
    ((0, 2), (0.5, 0), (1, 2)),
    ((1, 2), (0, 2), (0, 1), (1, 1), (1, 0), (0, 0)),
)
"""Letters as polylines in a 1 × 2 box."""


def _letters(rng: np.random.Generator, moment: float) -> tuple[list[Stroke], str]:
    """Lines of letters that scroll."""
    size = float(rng.uniform(0.06, 0.16))
    tint = str(rng.choice(["main", "second", "ink"]))
    strokes: list[Stroke] = []
    for row in np.arange(-0.2, 1.6, size * 2.9):
        for column in np.arange(-1.2, 1.2, size * 1.5):
            if rng.random() < 0.85:
                letter = _SEGMENTS[int(rng.integers(len(_SEGMENTS)))]
                points = [(column + x * size, row + 0.4 * moment + y * size) for x, y in letter]
                strokes.append(Line(tint, size * 0.28, points))
    return strokes, _say(rng, "text")


def _vacant(rng: np.random.Generator, moment: float) -> tuple[list[Stroke], str]:
    """An empty place; only the camera moves."""
    where = str(rng.choice(sorted(PLACES)))
    strokes = PLACES[where](rng)
    if rng.random() < 0.5:
        x = float(rng.uniform(-0.6, 0.6))
        strokes.append(
            Shape("near", oval(x + 0.6 * (moment - 0.5), 0.9 + 0.1 * math.sin(9 * moment), 0.05, 0.03))
        )
    return strokes, _say(rng, "snow field" if where == "snow" else where)


_MAKERS: dict[str, Callable[[np.random.Generator, float], tuple[list[Stroke], str]]] = {
    "shapes": _shapes,
    "weather": _weather,
    "pattern": _pattern,
    "text": _letters,
    "empty": _vacant,
}
EMPTY_KINDS: tuple[str, ...] = tuple(_MAKERS)


def empty_strokes(rng: np.random.Generator, kind: str, moment: float = 0.0) -> tuple[list[Stroke], str]:
    """The strokes of a scene without a figure, and what it shows in words.

    Args:
        rng: everything but the motion; the same state gives the same scene at another moment.
        kind: one of `EMPTY_KINDS`.
        moment: time in [0, 1].
    """
    return _MAKERS[kind](rng, moment)
