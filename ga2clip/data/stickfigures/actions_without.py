"""Actions of the body alone (running, bowing …), each a function of the phase.

Every one is a pure function, drawn so that most single phases show the verb; the figure looks to the right.
"""

from __future__ import annotations

import math

from ga2clip.data.stickfigures.figure import Pose, shoulder
from ga2clip.data.stickfigures.motion import (
    TAU,
    Action,
    Shot,
    mix,
    steps,
    there_and_back,
    wave,
)
from ga2clip.data.stickfigures.strokes import Disc, Line, Point, Stroke


def _run(p: float, _name: str) -> Shot:
    c = 0.24 * math.cos(TAU * p)
    hip = (-0.06, 0.46 + 0.03 * abs(wave(p)))
    top = shoulder(hip, 0.3)
    hands = ((top[0] - c, top[1] - 0.16), (top[0] + c, top[1] - 0.16))
    return Shot(Pose(hip, 0.3, hands, steps(p, -0.08, 0.34, 0.26)))


def _walk(p: float, _name: str) -> Shot:
    c = 0.12 * math.cos(TAU * p)
    return Shot(Pose((0, 0.45), 0.04, ((-c, 0.45), (c, 0.45)), steps(p, 0.0)))


def _handstand(p: float, _name: str) -> Shot:
    sway = 0.1 * wave(p)
    hip = (sway / 2, 0.66)
    feet = ((sway - 0.08, 1.14), (sway + 0.12 + 0.1 * wave(p + 0.2), 1.12))
    return Shot(Pose(hip, math.pi + sway / 2, ((-0.08, 0), (0.1, 0)), feet))


def _cartwheel(p: float, _name: str) -> Shot:
    lean = -0.6 + TAU * p
    centre = (mix(-0.15, 0.15, p), 0.52 + 0.06 * math.cos(2 * lean))
    up, side = (math.sin(lean), math.cos(lean)), (math.cos(lean), -math.sin(lean))

    def at(along: float, across: float) -> Point:
        return centre[0] + along * up[0] + across * side[0], centre[1] + along * up[1] + across * side[1]

    feet = (at(-0.42, -0.26), at(-0.42, 0.26))
    pose = Pose(at(-0.06, 0), lean, (at(0.5, -0.24), at(0.5, 0.24)), feet)
    return Shot(pose)


def _bow(p: float, _name: str) -> Shot:
    lean = mix(0.35, 1.45, min(1.0, 1.3 * there_and_back(p)))
    hip = (-0.12, 0.46)
    top = shoulder(hip, lean)
    hands = ((top[0] - 0.2, top[1] - 0.2), (-0.05, 0.52))
    return Shot(Pose(hip, lean, hands, ((-0.14, 0), (-0.06, 0)), nod=0.3))


def _push_up(p: float, _name: str) -> Shot:
    up = there_and_back(p)
    hip = (-0.06, mix(0.12, 0.25, up))
    pose = Pose(hip, mix(1.5, 1.25, up), ((0.26, 0), (0.28, 0)), ((-0.5, 0.02), (-0.5, 0.02)), nod=-0.3)
    return Shot(pose)


def _star_jump(p: float, _name: str) -> Shot:
    u = there_and_back(p)
    hip = (0, 0.45 + 0.05 * u)
    hands = ((-mix(0.14, 0.3, u), mix(0.5, 1.06, u)), (mix(0.14, 0.3, u), mix(0.5, 1.06, u)))
    feet = ((-mix(0.06, 0.26, u), 0.04 * u), (mix(0.06, 0.26, u), 0.04 * u))
    return Shot(Pose(hip, 0.0, hands, feet, elbows=(-1, 1), knees=(-1, 1)))


def _dance(p: float, _name: str) -> Shot:
    s, c = wave(p), math.cos(TAU * p)
    hip = (0.08 * s, 0.44)
    hands = ((-0.3, 0.8 + 0.3 * s), (0.3, 0.8 - 0.3 * s))
    notes: list[Stroke] = [
        Disc("ink", (0.5, 0.9 + 0.05 * c), 0.04),
        Line("ink", 0.02, [(0.535, 0.9 + 0.05 * c), (0.535, 1.1)]),
    ]
    feet = ((-0.14, 0.08 * max(0.0, s)), (0.14, 0.08 * max(0.0, -s)))
    return Shot(Pose(hip, -0.2 * s, hands, feet, elbows=(-1, 1), knees=(-1, 1)), behind=notes)


def _stand(p: float, _name: str) -> Shot:
    return Shot(
        Pose((0, 0.46), 0.0, ((-0.14, 0.43), (0.14, 0.43)), ((-0.08, 0), (0.08, 0)), nod=0.08 * wave(p))
    )


def _lie(p: float, _name: str) -> Shot:
    breath = 0.015 * wave(p)
    return Shot(
        Pose(
            (-0.02, 0.07), 1.5, ((0.3, 0.25 + breath), (0.12, 0.18 + breath)), ((-0.46, 0.03), (-0.45, 0.05))
        )
    )


ACTIONS: dict[str, Action] = {
    "running": _run,
    "strolling": _walk,
    "doing a handstand": _handstand,
    "turning": _cartwheel,
    "taking": _bow,
    "doing push-ups": _push_up,
    "doing star jumps": _star_jump,
    "dancing": _dance,
    "standing still": _stand,
    "lying down": _lie,
}
