"""Actions with a beginning and an end (sitting down, opening a door …), each a function of progress and object.

Progress goes from 0 to 1 once in a clip. Played backwards each of them is another action (standing up, closing a
door …), and no single moment tells which: who moves sideways is seen from the front, and nothing but the order of the
moments says where to.
"""

from __future__ import annotations

import math

from ga2clip.data.stickfigures import actions_with_loose
from ga2clip.data.stickfigures.figure import Pose
from ga2clip.data.stickfigures.motion import TAU, Action, Shot, fixed, loose, mix, ramp
from ga2clip.data.stickfigures.objects import FIXED, LOOSE, rectangle
from ga2clip.data.stickfigures.strokes import Disc, Frame, Line, Point, Shape, Stroke, place


def _between(a: Point, b: Point, t: float) -> Point:
    return mix(a[0], b[0], t), mix(a[1], b[1], t)


def _sit_down(p: float, name: str) -> Shot:
    height = LOOSE[name].half_height
    seat = 0.27 if name == "chair" else 2 * height
    t = ramp(p, 0.0, 1.0)
    hip = _between((0.26, 0.46), (0.0, seat + 0.03), t)
    knee = min(0.24, seat + 0.06)
    feet = ((0.24 + knee * 0.1, 0.0), (0.28 + knee * 0.2, 0.0))
    hands = (_between((0.2, 0.44), (0.22, seat + 0.08), t), _between((0.34, 0.44), (0.2, seat + 0.1), t))
    return Shot(Pose(hip, 0.75 * math.sin(math.pi * t), hands, feet), behind=loose(name, 0.0, height))


def _pick_up(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    bent, risen = ramp(p, 0.0, 0.5) - ramp(p, 0.5, 1.0), ramp(p, 0.5, 1.0)
    hip = (mix(-0.14, -0.2, bent), mix(0.46, 0.28, bent))
    spot = _between((0.08 + thing.half_width, thing.half_height), (0.04 + thing.half_width, 0.64), risen)
    under = (spot[0] - 0.5 * thing.half_width, spot[1] - 0.6 * thing.half_height)
    over = (spot[0] + 0.3 * thing.half_width, spot[1] - thing.half_height)
    reached = ramp(p, 0.0, 0.45)
    hands = (_between((-0.22, 0.44), over, reached), _between((-0.06, 0.44), under, reached))
    pose = Pose(hip, mix(-0.06, 0.95, bent), hands, ((-0.2, 0), (-0.06, 0)))
    return Shot(pose, held=loose(name, *spot))


_LEAVES: dict[str, tuple[float, float]] = {"door": (0.0, 1.12), "window": (0.6, 1.12)}
"""Lower and upper edge of what turns in its frame."""


def _open(p: float, name: str) -> Shot:
    return _open_leaf(p, *_LEAVES[name]) if name in _LEAVES else _open_lid(p, name)


def _open_leaf(p: float, low: float, high: float) -> Shot:
    """A door, or a window in the wall: the leaf turns round its right edge, away from the viewer."""
    left, right, angle = 0.12, 0.6, (1.05 if low else 1.3) * ramp(p, 0.1, 1.0)
    edge, slant = right - (right - left) * math.cos(angle), 0.1 * math.sin(angle)
    bottom = low + slant if low else slant / 2
    leaf = [(edge, bottom), (right, low), (right, high), (edge, high - slant)]
    handle = (edge + 0.05 * math.cos(angle), mix(low, high, 0.45 if low else 0.5))
    frame = Line("main", 0.05, [(left, low), (left, high), (right, high), (right, low)])
    whole: list[Stroke] = [Shape("ink", rectangle(left, low, right, high)), Shape("second", leaf)]
    if low:  # panes and a sill
        middle = (edge + right) / 2
        whole += [
            Line("main", 0.025, [(middle, (bottom + low) / 2), (middle, high - slant / 2)]),
            Line("main", 0.025, [(edge, (bottom + high - slant) / 2), (right, (low + high) / 2)]),
            Line("main", 0.06, [(left - 0.04, low), (right + 0.04, low)]),
        ]
    hip = (handle[0] - 0.36, 0.46)
    feet = ((hip[0] - 0.1, 0.0), (hip[0] + 0.08, 0.0))
    pose = Pose(hip, 0.08, ((hip[0] - 0.1, 0.46), handle), feet)
    return Shot(pose, behind=[*whole, frame, Disc("main", handle, 0.03)])


def _open_lid(p: float, name: str) -> Shot:
    """A box or a suitcase on the ground: the lid turns round its far upper corner."""
    thing, scale, x = LOOSE[name], 1.45, 0.3
    half, top = thing.half_width * scale, 2 * thing.half_height * scale
    top = top - 0.09 if name == "suitcase" else top  # without its grip
    hinge, angle = (x + half, top), 1.75 * ramp(p, 0.1, 1.0)
    lid = Frame(*hinge, -angle)
    corner, back = lid.map([(-2 * half, 0.05)])[0], lid.map([(-2 * half, 0.0), (0.0, 0.0), (0.0, 0.06)])
    rim: list[Stroke] = [
        Shape("main", [*back, lid.map([(-2 * half, 0.06)])[0]]),
        Line("ink", 0.035, [(x - half, top), hinge]),
    ]
    hip = (mix(-0.26, -0.02, ramp(p, 0.2, 1.0)), 0.42)
    pose = Pose(hip, 0.5, ((hip[0] + 0.1, 0.5), corner), ((-0.3, 0), (-0.06, 0)))
    return Shot(pose, behind=[*loose(name, x, thing.half_height * scale, 0.0, scale), *rim])


def _go_right(p: float, name: str) -> Shot:
    x = mix(-0.5, 0.5, p)
    stride = math.cos(TAU * 3 * p)
    feet = (
        (x - 0.11 - 0.05 * stride, 0.07 * max(0.0, math.sin(TAU * 3 * p))),
        (x + 0.11 + 0.05 * stride, 0.07 * max(0.0, -math.sin(TAU * 3 * p))),
    )
    hip = (x, 0.45)
    if not name:
        hands = ((x - 0.18, 0.46), (x + 0.18, 0.46))
        return Shot(Pose(hip, 0.0, hands, feet, elbows=(-1, 1), knees=(-1, 1)))
    thing = LOOSE[name]
    y = 0.6
    hands = ((x - thing.grip, y - 0.4 * thing.half_height), (x + thing.grip, y - 0.4 * thing.half_height))
    pose = Pose(hip, 0.0, hands, feet, elbows=(-1, 1), knees=(-1, 1))
    return Shot(pose, held=loose(name, x, y))


def _throw(p: float, name: str) -> Shot:
    return actions_with_loose.ACTIONS["throwing"](mix(0.1, 0.98, p), name)


_TOPS: dict[str, float] = {"table": 0.45, "barrel": 0.72}
"""Scale of what is climbed onto."""


def _climb_onto(p: float, name: str) -> Shot:
    scale = _TOPS[name]
    if name in FIXED:
        height, things = 0.61 * scale, fixed(name, 0.16, scale=scale)
    else:
        half = LOOSE[name].half_height * scale
        height, things = 2 * half, place(LOOSE[name].strokes, Frame(0.16, half, scale=scale))
    first, second = ramp(p, 0.05, 0.4), ramp(p, 0.55, 0.95)
    rise = ramp(p, 0.35, 0.85)
    hip = _between((-0.34, 0.46), (0.16, height + 0.45), rise)
    feet = (_lifted((-0.4, 0.0), (0.1, height), second), _lifted((-0.3, 0.0), (0.2, height), first))
    bow = 0.6 * math.sin(math.pi * ramp(p, 0.1, 0.95))
    hands = ((hip[0] + 0.2, hip[1] + 0.1 * bow), (hip[0] + 0.3 * bow - 0.08, hip[1] + 0.16 * bow))
    return Shot(Pose(hip, bow, hands, feet), behind=things)


def _lifted(start: Point, end: Point, t: float) -> Point:
    """A foot on its way up, which clears the edge."""
    x, y = _between(start, end, t)
    return x, y + 0.16 * math.sin(math.pi * t)


ACTIONS: dict[str, Action] = {
    "sitting down on": _sit_down,
    "picking up": _pick_up,
    "opening": _open,
    "to the right": _go_right,
    "throwing once": _throw,
    "climbing onto": _climb_onto,
}
"""Every action with a beginning and an end, by the name of its forward direction."""
