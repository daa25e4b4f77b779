"""What verbs are made of: easings, walking feet and props at places, by a phase in [0, 1).

A `Shot` is one moment of an action in world units: a pose, and props behind the figure, in its hands, before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ga2clip.data.stickfigures.figure import Body, Pose, figure_strokes
from ga2clip.data.stickfigures.objects import FIXED, HELD, LOOSE
from ga2clip.data.stickfigures.strokes import Frame, Line, Point, Stroke, place

TAU = 2 * math.pi


@dataclass(frozen=True, slots=True)
class Shot:
    """One moment of an action: the pose, and props behind the figure, in its hands, and before it."""

    pose: Pose
    behind: list[Stroke] = field(default_factory=list)
    held: list[Stroke] = field(default_factory=list)
    front: list[Stroke] = field(default_factory=list)


Action = Callable[[float, str], Shot]


def shot_strokes(shot: Shot, body: Body) -> list[Stroke]:
    """All strokes of a moment, the farthest first."""
    behind, front = figure_strokes(shot.pose, body)
    return [*shot.behind, *behind, *shot.held, *front, *shot.front]


def wave(p: float) -> float:
    """A full swing between -1 and 1 in a phase of 1."""
    return math.sin(TAU * p)


def there_and_back(p: float) -> float:
    """0 at the ends, 1 in the middle, smooth."""
    return 0.5 - 0.5 * math.cos(TAU * p)


def mix(a: float, b: float, t: float) -> float:
    """`t` of the way from a to b."""
    return a + (b - a) * t


def ramp(p: float, start: float, stop: float) -> float:
    """0 before `start`, 1 after `stop`, smooth between."""
    t = min(1.0, max(0.0, (p - start) / (stop - start)))
    return t * t * (3 - 2 * t)


def steps(p: float, x: float, stride: float = 0.18, lift: float = 0.1) -> tuple[Point, Point]:
    """The feet of a walk that stays at x."""
    phases = (p, p + 0.5)
    left, right = ((x + stride * math.cos(TAU * s), max(0.0, lift * wave(s))) for s in phases)
    return left, right


def loose(name: str, x: float, y: float, angle: float = 0.0, scale: float = 1.0) -> list[Stroke]:
    """A loose object with its centre at (x, y)."""
    return place(LOOSE[name].strokes, Frame(x, y, angle, scale))


def held(name: str, grip: Point, angle: float, scale: float = 1.0) -> list[Stroke]:
    """A held object, gripped at a point."""
    return place(HELD[name].strokes, Frame(grip[0], grip[1], angle, scale))


def fixed(name: str, x: float, y: float = 0.0, angle: float = 0.0, scale: float = 1.0) -> list[Stroke]:
    """An object that stands at (x, y)."""
    return place(FIXED[name].strokes, Frame(x, y, angle, scale))


def cord(points: list[Point], width: float = 0.018) -> list[Stroke]:
    """A cord through some points."""
    return [Line("ink", width, points)]
