"""The objects that figures use: strokes in local units and size of each.

A *loose* object has its origin in its centre; a *held* one (flag, hammer ...) has it where the hand grips, and
extends along +y; a *fixed* one (bike, boat, ladder ...) stands on the ground at its origin.
Tints: "main" and "second" (the object's two colours), "ink" (dark parts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ga2clip.data.stickfigures.strokes import Disc, Frame, Line, Point, Ring, Shape, Stroke, place


@dataclass(frozen=True, slots=True)
class Thing:
    """An object.

    Attributes:
        strokes: the drawing, local units.
        half_width, half_height: extent from the centre; of loose objects only.
        grip: half the distance of two hands that hold it.
    """

    strokes: tuple[Stroke, ...]
    half_width: float = 0.0
    half_height: float = 0.0
    grip: float = 0.2


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """The corners of an upright rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def oval(
    x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 2 * math.pi
) -> list[Point]:
    """Points on an ellipse between two angles (radians)."""
    steps = 18
    angles = [start + (stop - start) * i / steps for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def _loose(half_width: float, half_height: float, *strokes: Stroke, grip: float | None = None) -> Thing:
    return Thing(strokes, half_width, half_height, half_width if grip is None else grip)


def _made(*strokes: Stroke) -> Thing:
    return Thing(strokes)


def _wheel(x: float, y: float, radius: float, width: float, spokes: int) -> list[Stroke]:
    lines: list[Stroke] = []
    for k in range(spokes):
        a = math.pi * k / spokes
        dx, dy = radius * math.cos(a), radius * math.sin(a)
        lines.append(Line("second", width * 0.6, [(x - dx, y - dy), (x + dx, y + dy)]))
    return [*lines, Ring("main", width, (x, y), radius)]


def _legs(tint: str, width: float, top: float, xs: Sequence[float], spread: float = 0.0) -> list[Stroke]:
    return [Line(tint, width, [(x, top), (x + spread * (-1) ** i, 0)]) for i, x in enumerate(xs)]


LOOSE: dict[str, Thing] = {
    "ball": _loose(
        0.13,
        0.13,
        Disc("main", (0, 0), 0.13),
        Line("second", 0.025, oval(-0.13, 0, 0.13, 0.13, -0.9, 0.9)),
        Line("second", 0.025, oval(0.13, 0, 0.13, 0.13, 2.2, 4.0)),
    ),
    "box": _loose(
        0.15,
        0.14,
        Shape("main", rectangle(-0.15, -0.14, 0.15, 0.14)),
        Line("second", 0.035, [(0, -0.14), (0, 0.14)]),
        Line("second", 0.035, [(-0.15, 0.05), (0.15, 0.05)]),
    ),
    "barrel": _loose(
        0.14,
        0.19,
        Shape("main", [(-0.1, -0.19), (0.1, -0.19), (0.15, 0), (0.1, 0.19), (-0.1, 0.19), (-0.15, 0)]),
        Line("second", 0.03, [(-0.12, -0.1), (0.12, -0.1)]),
        Line("second", 0.03, [(-0.12, 0.1), (0.12, 0.1)]),
    ),
    "barbell": _loose(
        0.4,
        0.15,
        Line("ink", 0.03, [(-0.44, 0), (0.44, 0)]),
        Shape("main", rectangle(-0.38, -0.15, -0.3, 0.15)),
        Shape("main", rectangle(0.3, -0.15, 0.38, 0.15)),
        Shape("second", rectangle(-0.29, -0.1, -0.24, 0.1)),
        Shape("second", rectangle(0.24, -0.1, 0.29, 0.1)),
        grip=0.17,
    ),
    "bucket": _loose(
        0.12,
        0.13,
        Line("ink", 0.02, oval(0, 0.06, 0.11, 0.14, 0, math.pi)),
        Shape("main", [(-0.09, -0.13), (0.09, -0.13), (0.13, 0.07), (-0.13, 0.07)]),
        Line("second", 0.03, [(-0.12, 0.02), (0.12, 0.02)]),
    ),
    "chair": _loose(
        0.14,
        0.25,
        Line("main", 0.04, [(-0.13, -0.25), (-0.13, 0.25)]),
        Line("main", 0.04, [(0.13, -0.25), (0.13, -0.01)]),
        Line("main", 0.05, [(-0.13, 0.0), (0.14, 0.0)]),
        Line("second", 0.03, [(-0.13, 0.12), (-0.13, 0.25)]),
        Line("main", 0.025, [(-0.13, -0.13), (0.13, -0.13)]),
    ),
    "ladder": _loose(
        0.5,
        0.1,
        Line("main", 0.03, [(-0.5, 0.09), (0.5, 0.09)]),
        Line("main", 0.03, [(-0.5, -0.09), (0.5, -0.09)]),
        *(Line("second", 0.028, [(0.11 * k, -0.09), (0.11 * k, 0.09)]) for k in range(-4, 5)),
        grip=0.2,
    ),
    "sled": _loose(
        0.24,
        0.09,
        Shape("main", rectangle(-0.22, 0.0, 0.18, 0.06)),
        Line("second", 0.03, [(-0.24, -0.08), (0.16, -0.08), (0.25, -0.02), (0.25, 0.09)]),
        Line("second", 0.025, [(-0.15, -0.08), (-0.15, 0.0)]),
        Line("second", 0.025, [(0.1, -0.08), (0.1, 0.0)]),
    ),
    "wheel": _loose(0.18, 0.18, *_wheel(0, 0, 0.165, 0.045, 4), Disc("main", (0, 0), 0.035)),
    "drum": _loose(
        0.16,
        0.13,
        Shape("main", rectangle(-0.16, -0.12, 0.16, 0.1)),
        Line("second", 0.025, [(-0.16, 0.08), (-0.08, -0.1), (0, 0.08), (0.08, -0.1), (0.16, 0.08)]),
        Shape("second", oval(0, 0.11, 0.16, 0.035)),
    ),
    "suitcase": _loose(
        0.17,
        0.15,
        Line("ink", 0.025, [(-0.05, 0.09), (-0.05, 0.15), (0.05, 0.15), (0.05, 0.09)]),
        Shape("main", rectangle(-0.17, -0.15, 0.17, 0.09)),
        Line("second", 0.03, [(-0.1, -0.15), (-0.1, 0.09)]),
        Line("second", 0.03, [(0.1, -0.15), (0.1, 0.09)]),
    ),
    "log": _loose(
        0.25,
        0.09,
        Shape("main", [(-0.25, -0.09), (0.2, -0.09), *oval(0.2, 0, 0.06, 0.09, -1.57, 1.57), (-0.25, 0.09)]),
        Shape("second", oval(0.2, 0, 0.06, 0.09)),
        Line("ink", 0.015, [(-0.18, 0.02), (-0.02, 0.02)]),
        Line("ink", 0.015, [(-0.1, -0.04), (0.08, -0.04)]),
    ),
    "balloon": _loose(
        0.14,
        0.18,
        Line("ink", 0.012, [(0, -0.12), (0.02, -0.2), (-0.02, -0.28)]),
        Shape("main", oval(0, 0.03, 0.14, 0.17)),
        Line("second", 0.02, oval(0.02, 0.05, 0.07, 0.1, 0.3, 1.4)),
    ),
    "pot": _loose(
        0.17,
        0.12,
        Line("ink", 0.03, [(-0.2, 0.03), (0.2, 0.03)]),
        Shape(
            "main", [(-0.16, 0.08), (-0.15, -0.06), (-0.1, -0.12), (0.1, -0.12), (0.15, -0.06), (0.16, 0.08)]
        ),
        Line("second", 0.035, [(-0.17, 0.08), (0.17, 0.08)]),
    ),
    "guitar": _loose(
        0.3,
        0.13,
        Line("second", 0.045, [(0.0, 0.0), (0.36, 0.0)]),
        Line("ink", 0.06, [(0.36, 0.0), (0.42, 0.0)]),
        Disc("main", (-0.15, 0), 0.13),
        Disc("main", (0.0, 0), 0.1),
        Disc("ink", (-0.06, 0), 0.045),
    ),
}

HELD: dict[str, Thing] = {
    "flag": _made(
        Line("ink", 0.025, [(0, -0.1), (0, 0.5)]),
        Shape("main", [(0, 0.5), (0.16, 0.53), (0.34, 0.47), (0.34, 0.22), (0.16, 0.27), (0, 0.23)]),
        Line("second", 0.05, [(0, 0.365), (0.16, 0.4), (0.34, 0.345)]),
    ),
    "umbrella": _made(
        Line("ink", 0.022, [(0.03, -0.1), (0, -0.07), (0, 0.48)]),
        Shape("main", [*oval(0, 0.27, 0.36, 0.22, 0, math.pi), (-0.18, 0.31), (0, 0.27), (0.18, 0.31)]),
        Line("second", 0.02, [(0, 0.27), (0, 0.49)]),
        Line("second", 0.02, [(-0.18, 0.31), (0, 0.49), (0.18, 0.31)]),
    ),
    "hammer": _made(
        Line("second", 0.035, [(0, -0.12), (0, 0.36)]),
        Shape("main", rectangle(-0.14, 0.3, 0.14, 0.45)),
    ),
    "racket": _made(
        Line("ink", 0.04, [(0, -0.08), (0, 0.16)]),
        *(Line("second", 0.012, [(x, 0.17), (x, 0.47)]) for x in (-0.06, 0.0, 0.06)),
        *(Line("second", 0.012, [(-0.12, y), (0.12, y)]) for y in (0.24, 0.32, 0.4)),
        Line("main", 0.035, oval(0, 0.32, 0.13, 0.16)),
    ),
    "torch": _made(
        Line("ink", 0.05, [(0, -0.1), (0, 0.16)]),
        Shape(
            "main", [(-0.08, 0.16), (0.08, 0.16), (0.12, 0.28), (0.03, 0.46), (-0.02, 0.34), (-0.11, 0.27)]
        ),
        Shape("second", [(-0.04, 0.17), (0.04, 0.17), (0.05, 0.25), (0.0, 0.33), (-0.05, 0.25)]),
    ),
    "broom": _made(
        Line("second", 0.028, [(0, 0.3), (0, -0.5)]),
        Shape("main", [(-0.05, -0.44), (0.05, -0.44), (0.14, -0.64), (-0.14, -0.64)]),
        Line("ink", 0.015, [(0, -0.5), (0, -0.63)]),
    ),
    "shovel": _made(
        Line("second", 0.03, [(0, 0.26), (0, -0.36)]),
        Line("second", 0.03, [(-0.06, 0.26), (0.06, 0.26)]),
        Shape("main", [(-0.1, -0.34), (0.1, -0.34), (0.09, -0.52), (0, -0.6), (-0.09, -0.52)]),
    ),
    "oar": _made(Line("ink", 0.03, [(0, 0.1), (0, -0.5)]), Shape("second", oval(0, -0.55, 0.06, 0.12))),
    "bow": _made(
        Line("main", 0.035, oval(-0.12, 0, 0.16, 0.36, -1.45, 1.45)),
        Line("ink", 0.012, [(-0.1, -0.36), (-0.26, 0), (-0.1, 0.36)]),
    ),
    "arrow": _made(
        Line("ink", 0.02, [(-0.3, 0), (0.14, 0)]),
        Shape("second", [(0.12, 0.05), (0.22, 0), (0.12, -0.05)]),
        Line("second", 0.02, [(-0.34, 0.04), (-0.28, 0), (-0.34, -0.04)]),
    ),
    "can": _made(
        Shape("main", rectangle(-0.1, -0.2, 0.1, 0.0)),
        Line("main", 0.035, [(0.1, -0.17), (0.22, -0.02), (0.27, 0.0)]),
        Line("second", 0.025, oval(0, 0.0, 0.08, 0.07, 0, math.pi)),
    ),
    "saw": _made(
        Shape("second", [(0.0, 0.05), (0.06, 0.08), (0.1, -0.06), (0, -0.06)]),
        Shape(
            "main",
            [(0.06, 0.05), (0.46, 0.03), *((0.46 - 0.05 * k, -0.05 + 0.04 * (k % 2)) for k in range(9))],
        ),
    ),
    "trumpet": _made(
        Line("main", 0.035, [(0, 0), (0.3, 0.0)]),
        Shape("main", [(0.26, 0.02), (0.42, 0.12), (0.42, -0.12), (0.26, -0.02)]),
        Line("second", 0.03, oval(0.17, -0.05, 0.08, 0.06)),
    ),
    "rod": _made(Line("main", 0.028, [(-0.12, -0.08), (0.2, 0.2), (0.45, 0.42)])),
    "brush": _made(
        Line("ink", 0.028, [(0, -0.25), (0, 0.12)]), Shape("main", rectangle(-0.12, 0.1, 0.12, 0.22))
    ),
    "newspaper": _made(
        Shape("main", [(-0.2, -0.12), (0, -0.16), (0.2, -0.12), (0.2, 0.17), (0, 0.13), (-0.2, 0.17)]),
        *(Line("second", 0.018, [(-0.16, y + 0.02), (-0.04, y)]) for y in (-0.06, 0.0, 0.06)),
        *(Line("second", 0.018, [(0.04, y), (0.16, y + 0.02)]) for y in (-0.06, 0.0, 0.06)),
    ),
    "spoon": _made(Line("ink", 0.028, [(0, 0.12), (0, -0.3)]), Shape("second", oval(0, -0.33, 0.05, 0.07))),
    "stick": _made(Line("ink", 0.03, [(0, -0.08), (0, 0.24)])),
}

LOOSE["hammer"] = _loose(0.14, 0.16, *place(HELD["hammer"].strokes, Frame(0.0, -0.2)))

FIXED: dict[str, Thing] = {
    "bike": _made(
        *_wheel(-0.32, 0.2, 0.19, 0.035, 3),
        *_wheel(0.32, 0.2, 0.19, 0.035, 3),
        Line("main", 0.04, [(-0.32, 0.2), (-0.12, 0.44), (0.22, 0.44), (0.0, 0.18), (-0.32, 0.2)]),
        Line("main", 0.04, [(0.32, 0.2), (0.2, 0.58), (0.3, 0.6)]),
        Line("ink", 0.05, [(-0.2, 0.5), (-0.06, 0.5)]),
    ),
    "horse": _made(
        Shape("main", oval(0, 0.42, 0.36, 0.14)),
        Shape("main", [(0.2, 0.46), (0.34, 0.38), (0.46, 0.68), (0.34, 0.76)]),
        Shape("main", [(0.32, 0.78), (0.4, 0.8), (0.6, 0.64), (0.54, 0.57), (0.4, 0.62)]),
        Line("second", 0.06, [(0.2, 0.56), (0.32, 0.78)]),
        Line("second", 0.05, [(-0.34, 0.48), (-0.46, 0.4), (-0.48, 0.22)]),
    ),
    "elephant": _made(
        Shape("main", oval(-0.04, 0.4, 0.36, 0.2)),
        Disc("main", (0.36, 0.52), 0.16),
        Line("main", 0.08, [(0.48, 0.5), (0.54, 0.3), (0.5, 0.12)]),
        Shape("second", oval(0.28, 0.54, 0.09, 0.13)),
        *_legs("main", 0.11, 0.32, (-0.28, 0.18)),
    ),
    "scooter": _made(
        *_wheel(-0.28, 0.08, 0.075, 0.035, 2),
        *_wheel(0.3, 0.08, 0.075, 0.035, 2),
        Line("main", 0.05, [(-0.28, 0.12), (0.22, 0.12), (0.3, 0.08)]),
        Line("second", 0.035, [(0.28, 0.1), (0.2, 0.62)]),
        Line("ink", 0.035, [(0.12, 0.62), (0.26, 0.62)]),
    ),
    "skateboard": _made(
        Disc("second", (-0.2, 0.05), 0.055),
        Disc("second", (0.2, 0.05), 0.055),
        Line("main", 0.05, [(-0.38, 0.18), (-0.28, 0.12), (0.28, 0.12), (0.38, 0.18)]),
    ),
    "car": _made(
        Shape("main", [(-0.58, 0.12), (0.6, 0.12), (0.6, 0.34), (0.3, 0.4), (-0.58, 0.42)]),
        Line("second", 0.03, [(0.3, 0.4), (0.18, 0.66)]),
        Disc("ink", (-0.34, 0.12), 0.13),
        Disc("ink", (0.36, 0.12), 0.13),
        Disc("second", (-0.34, 0.12), 0.06),
        Disc("second", (0.36, 0.12), 0.06),
    ),
    "boat": _made(
        Shape("main", [(-0.62, 0.3), (-0.46, 0.04), (0.46, 0.04), (0.66, 0.3)]),
        Line("second", 0.04, [(-0.57, 0.23), (0.6, 0.23)]),
    ),
    "raft": _made(
        *(Disc("main", (-0.42 + 0.17 * k, 0.12), 0.085) for k in range(6)),
        Line("second", 0.035, [(-0.52, 0.2), (0.52, 0.2)]),
    ),
    "fence": _made(
        *(
            Shape("main", [(x - 0.045, 0), (x + 0.045, 0), (x + 0.045, 0.27), (x, 0.33), (x - 0.045, 0.27)])
            for x in (-0.3, -0.15, 0.0, 0.15, 0.3)
        ),
        Line("second", 0.035, [(-0.38, 0.1), (0.38, 0.1)]),
        Line("second", 0.035, [(-0.38, 0.22), (0.38, 0.22)]),
    ),
    "ladder": _made(
        Line("main", 0.035, [(-0.13, 0), (-0.13, 1.45)]),
        Line("main", 0.035, [(0.13, 0), (0.13, 1.45)]),
        *(Line("second", 0.03, [(-0.13, 0.1 + 0.13 * k), (0.13, 0.1 + 0.13 * k)]) for k in range(11)),
    ),
    "rope": _made(
        Line("main", 0.04, [(0, 0.05), (0, 1.5)]),
        *(Line("second", 0.02, [(-0.02, 0.1 + 0.1 * k), (0.02, 0.14 + 0.1 * k)]) for k in range(14)),
        Disc("main", (0, 0.06), 0.04),
    ),
    "pole": _made(Line("main", 0.075, [(0, 0), (0, 1.5)]), Line("second", 0.02, [(0.02, 0), (0.02, 1.5)])),
    "dog": _made(
        *_legs("main", 0.04, 0.16, (-0.14, -0.08, 0.08, 0.14), 0.03),
        Shape("main", rectangle(-0.18, 0.12, 0.16, 0.25)),
        Disc("main", (0.2, 0.3), 0.08),
        Line("main", 0.05, [(0.24, 0.28), (0.31, 0.27)]),
        Line("second", 0.05, [(0.16, 0.36), (0.15, 0.27)]),
        Line("second", 0.035, [(-0.18, 0.22), (-0.27, 0.36)]),
    ),
    "cow": _made(
        *_legs("main", 0.05, 0.2, (-0.18, -0.1, 0.08, 0.16), 0.02),
        Shape("main", rectangle(-0.24, 0.17, 0.2, 0.4)),
        Disc("second", (-0.08, 0.3), 0.06),
        Disc("second", (0.08, 0.33), 0.045),
        Shape("main", [(0.18, 0.46), (0.32, 0.44), (0.36, 0.3), (0.24, 0.28)]),
        Line("ink", 0.025, [(0.16, 0.54), (0.22, 0.46), (0.29, 0.45), (0.35, 0.54)]),
    ),
    "table": _made(
        Line("main", 0.06, [(-0.5, 0.58), (0.5, 0.58)]),
        Line("second", 0.045, [(-0.44, 0.58), (-0.44, 0)]),
        Line("second", 0.045, [(0.44, 0.58), (0.44, 0)]),
    ),
    "trampoline": _made(
        Line("main", 0.05, [(-0.48, 0.2), (0.48, 0.2)]),
        *_legs("second", 0.035, 0.2, (-0.44, -0.2, 0.2, 0.44), -0.04),
    ),
    "piano": _made(
        Shape("main", rectangle(0.0, 0.0, 0.34, 0.72)),
        Shape("main", rectangle(-0.16, 0.34, 0.1, 0.44)),
        Line("second", 0.035, [(-0.16, 0.45), (0.02, 0.45)]),
        Line("ink", 0.03, [(-0.13, 0.34), (-0.13, 0.0)]),
    ),
    "plant": _made(
        Line("second", 0.03, [(0, 0.15), (0, 0.42)]),
        Shape("second", oval(-0.08, 0.36, 0.09, 0.045)),
        Shape("second", oval(0.08, 0.44, 0.09, 0.045)),
        Disc("second", (0, 0.52), 0.07),
        Shape("main", [(-0.08, 0), (0.08, 0), (0.12, 0.17), (-0.12, 0.17)]),
    ),
    "kite": _made(
        Line("ink", 0.015, [(0, -0.16), (-0.06, -0.26), (0.02, -0.34)]),
        Shape("main", [(0, 0.2), (0.14, 0.04), (0, -0.2), (-0.14, 0.04)]),
        Line("second", 0.02, [(0, 0.2), (0, -0.2)]),
        Line("second", 0.02, [(-0.14, 0.04), (0.14, 0.04)]),
    ),
    "bag": _made(
        Line("ink", 0.02, [(0, 0.0), (0, -0.3)]),
        Shape("main", rectangle(-0.12, -0.92, 0.12, -0.3)),
        Line("second", 0.04, [(-0.12, -0.5), (0.12, -0.5)]),
        Line("second", 0.04, [(-0.12, -0.74), (0.12, -0.74)]),
    ),
    "bar": _made(
        Line("main", 0.05, [(-0.55, 1.26), (0.55, 1.26)]),
        Line("second", 0.04, [(-0.5, 1.26), (-0.5, 0)]),
        Line("second", 0.04, [(0.5, 1.26), (0.5, 0)]),
    ),
    "trestle": _made(
        Line("ink", 0.03, [(-0.2, 0), (-0.08, 0.3), (-0.02, 0.36)]),
        Line("ink", 0.03, [(0.2, 0), (0.08, 0.3), (0.02, 0.36)]),
    ),
    "fire": _made(
        Line("ink", 0.03, [(-0.16, 0.0), (-0.16, 0.24), (0.16, 0.24), (0.16, 0.0)]),
        Shape("second", [(-0.08, 0.02), (0.08, 0.02), (0.06, 0.12), (0.0, 0.2), (-0.06, 0.11)]),
    ),
    "hole": _made(
        Shape("ink", oval(0.0, 0.0, 0.2, 0.05)),
        Shape("second", [(0.2, 0.0), (0.32, 0.14), (0.46, 0.0)]),
    ),
}
