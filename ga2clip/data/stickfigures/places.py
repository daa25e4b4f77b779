"""Where things happen: background strokes of a place in world units.

Tints: "sky" (the upper part is cleared to it beforehand), "ground", "far" (large things at the back), "near" (small
things). Every place has its own shapes, so that it can be told without its colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ga2clip.data.stickfigures.objects import oval, rectangle
from ga2clip.data.stickfigures.strokes import Disc, Line, Shape, Stroke

WIDE = 1.3
"""Backgrounds reach this far to each side, so that a camera may move."""


def _ground(level: float) -> list[Stroke]:
    return [Shape("ground", rectangle(-WIDE, -0.5, WIDE, level))]


def _grass(rng: np.random.Generator) -> list[Stroke]:
    tufts: list[Stroke] = []
    for x in rng.uniform(-WIDE, WIDE, 16):
        y = float(rng.uniform(-0.12, 0.06))
        tufts.append(Line("near", 0.014, [(x - 0.03, y + 0.06), (x, y), (x + 0.03, y + 0.06)]))
    x = float(rng.uniform(-0.9, 0.9))
    tree: list[Stroke] = [Line("near", 0.06, [(x, 0.1), (x, 0.5)]), Disc("far", (x, 0.68), 0.2)]
    return [*tree, *_ground(0.12), *tufts]


def _gym(rng: np.random.Generator) -> list[Stroke]:
    x = float(rng.uniform(-1.1, -0.4))
    bars: list[Stroke] = [Line("far", 0.022, [(x, y), (x + 0.7, y)]) for y in np.arange(0.3, 1.4, 0.13)]
    posts: list[Stroke] = [Line("far", 0.035, [(x + d, 0.1), (x + d, 1.5)]) for d in (0.0, 0.7)]
    mats: list[Stroke] = [
        Line("near", 0.016, [(-WIDE + 0.35 * k, -0.4), (-WIDE * 0.8 + 0.28 * k, 0.08)]) for k in range(9)
    ]
    return [*bars, *posts, *_ground(0.08), *mats]


def _water(rng: np.random.Generator) -> list[Stroke]:
    shift = float(rng.uniform(0, 0.2))
    waves: list[Stroke] = []
    for y in (0.04, -0.05, -0.14):
        points = [(-WIDE + shift + 0.08 * k, y + 0.02 * (-1) ** k) for k in range(33)]
        waves.append(Line("near", 0.016, points))
    hill = Shape("far", oval(float(rng.uniform(-0.8, 0.8)), 0.1, 0.5, 0.2, 0, math.pi))
    return [hill, *_ground(0.1), *waves]


def _street(rng: np.random.Generator) -> list[Stroke]:
    houses: list[Stroke] = []
    x = -WIDE + float(rng.uniform(-0.3, 0))
    while x < WIDE:
        width, height = float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.7, 1.3))
        houses.append(Shape("far", rectangle(x, 0.1, x + width - 0.05, height)))
        for row in np.arange(0.35, height - 0.15, 0.24):
            for column in np.arange(0.06, width - 0.18, 0.17):
                houses.append(Shape("near", rectangle(x + column, row, x + column + 0.09, row + 0.12)))
        x += width
    dashes: list[Stroke] = [
        Line("near", 0.025, [(a, -0.07), (a + 0.14, -0.07)]) for a in np.arange(-WIDE, WIDE, 0.3)
    ]
    return [*houses, *_ground(0.12), *dashes]


def _room(rng: np.random.Generator) -> list[Stroke]:
    x = float(rng.uniform(-0.7, 0.35))
    window: list[Stroke] = [
        Shape("far", rectangle(x, 0.7, x + 0.42, 1.2)),
        Line("near", 0.022, [(x + 0.21, 0.7), (x + 0.21, 1.2)]),
        Line("near", 0.022, [(x, 0.95), (x + 0.42, 0.95)]),
    ]
    lamp_x = x + float(rng.choice([-0.35, 0.75]))
    lamp: list[Stroke] = [
        Line("near", 0.02, [(lamp_x, 1.6), (lamp_x, 1.25)]),
        Shape(
            "near",
            [(lamp_x - 0.12, 1.13), (lamp_x + 0.12, 1.13), (lamp_x + 0.05, 1.25), (lamp_x - 0.05, 1.25)],
        ),
    ]
    boards: list[Stroke] = [Line("near", 0.01, [(-WIDE, y), (WIDE, y)]) for y in (0.06, -0.02, -0.1)]
    return [*window, *lamp, *_ground(0.14), *boards]


def _snow(rng: np.random.Generator) -> list[Stroke]:
    peak = float(rng.uniform(-0.6, 0.6))
    hills: list[Stroke] = [
        Shape("far", [(peak - 0.7, 0.08), (peak, 0.95), (peak + 0.7, 0.08)]),
        Shape(
            "ground",
            [(peak - 0.2, 0.7), (peak, 0.95), (peak + 0.2, 0.7), (peak + 0.07, 0.75), (peak - 0.06, 0.68)],
        ),
    ]
    flakes: list[Stroke] = [
        Disc("ground", (float(x), float(y)), 0.018) for x, y in rng.uniform((-1, 0.1), (1, 1.4), (26, 2))
    ]
    return [*hills, *_ground(0.1), *flakes]


def _stage(rng: np.random.Generator) -> list[Stroke]:
    curtain: list[Stroke] = []
    for side in (-1, 1):
        curtain.append(Shape("far", rectangle(side * 0.52, 0.08, side * WIDE, 1.6)))
        curtain += [Line("near", 0.02, [(side * x, 0.08), (side * x, 1.6)]) for x in (0.56, 0.66, 0.76, 0.9)]
    top = [(-WIDE, 1.6), *((-0.6 + 0.1 * k, 1.27 + 0.05 * (k % 2)) for k in range(13)), (WIDE, 1.6)]
    x = float(rng.uniform(-0.2, 0.2))
    light = Shape("near", oval(x, 0.02, 0.45, 0.06))
    return [*curtain, Shape("far", top), *_ground(0.08), light]


def _beach(rng: np.random.Generator) -> list[Stroke]:
    x = float(rng.choice([-1, 1])) * float(rng.uniform(0.5, 0.62))
    leaves: list[Stroke] = [
        Line(
            "far",
            0.045,
            [
                (x, 0.95),
                (x + 0.22 * math.cos(a), 0.98 + 0.18 * math.sin(a)),
                (x + 0.34 * math.cos(a), 0.85 + 0.16 * math.sin(a)),
            ],
        )
        for a in (0.2, 0.9, 1.7, 2.4, 3.1)
    ]
    palm: list[Stroke] = [Line("near", 0.05, [(x + 0.08, 0.05), (x + 0.05, 0.5), (x, 0.95)])]
    sea: list[Stroke] = [Shape("far", rectangle(-WIDE, 0.1, WIDE, 0.32))]
    sun = Disc("near", (-x * 0.7, 1.2), 0.1)
    return [sun, *sea, *_ground(0.13), *palm, *leaves]


PLACES: dict[str, Callable[[np.random.Generator], list[Stroke]]] = {
    "grass": _grass,
    "gym": _gym,
    "water": _water,
    "street": _street,
    "room": _room,
    "snow": _snow,
    "stage": _stage,
    "beach": _beach,
}
