"""Actions with a loose object (ball, box …), each a function of phase and object.

Every one is a pure function, drawn so that most single phases show the verb; the figure looks to the right.
"""

from __future__ import annotations

import math

from ga2clip.data.stickfigures.figure import Pose, shoulder
from ga2clip.data.stickfigures.motion import (
    TAU,
    Action,
    Shot,
    cord,
    fixed,
    loose,
    mix,
    ramp,
    steps,
    there_and_back,
    wave,
)
from ga2clip.data.stickfigures.objects import LOOSE
from ga2clip.data.stickfigures.strokes import Stroke


def _kick(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    swing = mix(-0.9, 1.15, ramp(p, 0.1, 0.4)) - 2.05 * ramp(p, 0.8, 1.0)
    hip = (-0.22, 0.46)
    flight = max(0.0, (p - 0.32) / 0.68)
    x, y = mix(0.06 + thing.half_width, 0.6, flight), thing.half_height + 0.9 * flight * (1.15 - flight)
    foot = (hip[0] + 0.45 * math.sin(swing), hip[1] - 0.45 * math.cos(swing))
    pose = Pose(hip, -0.25 * swing, ((-0.5, 0.62), (0.08, 0.68)), ((-0.26, 0), foot))
    return Shot(pose, front=loose(name, x, y, -4 * flight))


def _lift(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    up = min(1.0, 1.35 * there_and_back(p))
    hip = (0.0, mix(0.24, 0.46, up))
    y = mix(thing.half_height, 1.06 + 0.6 * thing.half_height, up)
    hands = ((-thing.grip, y - 0.3 * thing.half_height), (thing.grip, y - 0.3 * thing.half_height))
    if thing.half_width > 0.3:
        hands = ((-thing.grip, y), (thing.grip, y))
    pose = Pose(hip, 0.0, hands, ((-0.17, 0), (0.17, 0)), elbows=(-1, 1), knees=(-1, 1))
    return Shot(pose, held=loose(name, 0.0, y))


def _carry(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    hip = (-0.1, 0.45 + 0.015 * wave(2 * p))
    feet = steps(p, -0.1)
    if thing.half_width > 0.3 or name == "guitar":
        top = shoulder(hip, 0.0)
        spot = (top[0] + 0.02, top[1] + 0.02 + 0.5 * thing.half_height)
        pose = Pose(hip, 0.0, ((spot[0] + 0.16, spot[1] - 0.02), (spot[0] + 0.12, spot[1] - 0.02)), feet)
        return Shot(pose, held=loose(name, *spot, angle=0.05 * wave(p)))
    spot = (0.06 + thing.half_width, 0.62 + 0.015 * wave(2 * p))
    under = (spot[0] + 0.3 * thing.half_width, spot[1] - thing.half_height)
    pose = Pose(hip, -0.12, (under, (spot[0] - 0.5 * thing.half_width, under[1] + 0.02)), feet)
    return Shot(pose, held=loose(name, *spot, angle=0.05 * wave(p)))


def _push(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    shove = 0.05 * wave(p)
    height = min(0.5, 1.5 * thing.half_height)
    hands = ((0.15 + shove, height), (0.13 + shove, height * 0.85))
    pose = Pose((-0.27 + shove / 2, 0.4), 0.75, hands, steps(p, -0.45, 0.16))
    return Shot(pose, front=loose(name, 0.16 + thing.half_width + shove, thing.half_height))


def _pull(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    tug = 0.06 * wave(p)
    hands = ((-0.06 - tug, 0.56), (-0.16 - tug, 0.54))
    x = 0.36 + thing.half_width - tug
    pose = Pose((-0.34 - tug / 2, 0.38), -0.45, hands, steps(p, -0.08, 0.1, 0.05))
    rope = cord([(-0.2 - tug, 0.53), (0.05, 0.46), (x - 0.7 * thing.half_width, thing.half_height)], 0.022)
    return Shot(pose, held=[*rope, *loose(name, x, thing.half_height)])


def _throw(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    hip = (-0.22, 0.45)
    turn = ramp(p, 0.15, 0.5)
    lean = mix(-0.35, 0.4, turn)
    top = shoulder(hip, lean)
    angle = mix(2.6, 0.15, turn)
    hand = (top[0] + 0.34 * math.cos(angle), top[1] + 0.34 * math.sin(angle))
    flight = max(0.0, (p - 0.42) / 0.58)
    spot = (hand[0] + 0.8 * thing.half_width * math.cos(angle), hand[1] + thing.half_height * 0.8)
    if flight:
        spot = (0.2 + 0.42 * flight, 1.12 + 0.3 * flight - 0.55 * flight**2)
    other = (top[0] + mix(0.3, -0.2, turn), top[1] + mix(0.08, -0.2, turn))
    pose = Pose(hip, lean, (other, hand), ((-0.4, 0), (0.02, 0)))
    return Shot(pose, front=loose(name, *spot, angle=-5 * flight, scale=0.9))


def _jump_over(p: float, name: str) -> Shot:
    portable = name in LOOSE
    half_height = LOOSE[name].half_height if portable else 0.16
    x, air = mix(-0.42, 0.42, p), 4 * p * (1 - p)
    hip = (x, 0.42 + (0.2 + min(0.16, half_height)) * air)
    feet = (
        (x - mix(0.05, 0.3, air), hip[1] - mix(0.42, 0.16, air)),
        (x + mix(0.05, 0.34, air), hip[1] - mix(0.42, 0.05, air)),
    )
    top = shoulder(hip, 0.25)
    hands = ((top[0] - 0.25, top[1] + 0.2 * air), (top[0] + 0.28, top[1] + 0.22 * air))
    thing = loose(name, 0, half_height) if portable else fixed(name, 0)
    return Shot(Pose(hip, 0.25, hands, feet), behind=thing)


def _sit_on(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    seat = 0.27 if name == "chair" else 2 * thing.half_height
    hip = (0.0, seat + 0.03)
    sway = 0.05 * wave(p)
    top = shoulder(hip, sway)
    hands = ((0.22, seat + 0.08), (0.2 + sway, seat + 0.1))
    knee = min(0.24, seat + 0.06)
    pose = Pose(hip, sway, hands, ((0.24 + knee * 0.1, 0), (0.28 + knee * 0.2, 0)), nod=2 * sway)
    assert top[1] < 1.2
    return Shot(pose, behind=loose(name, 0.0, thing.half_height))


def _balance(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    sway = 0.06 * wave(p)
    hip = (-0.02 * sway, 0.44)
    arms = 0.1 * wave(p + 0.1)
    hands = ((-0.36, 0.78 + arms), (0.36, 0.78 - arms))
    foot = (0.16, 0.2 + 0.03 * wave(p))
    pose = Pose(hip, -sway, hands, ((-0.02, 0), foot))
    return Shot(pose, behind=loose(name, sway, 0.98 + thing.half_height, -sway * 2))


def _roll(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    x, scale = 0.22, 1.35
    y = thing.half_height * scale
    hand = (0.1, y * 1.75)
    pose = Pose((-0.2, 0.43), 0.4, (hand, (0.0, y * 1.5)), steps(p, -0.24, 0.2))
    return Shot(pose, behind=loose(name, x, y, -TAU * p / 4, scale))


def _juggle(p: float, name: str) -> Shot:
    things: list[Stroke] = []
    for k in range(3):
        s = (p + k / 3) % 1.0
        u = (2 * s) % 1.0
        x = mix(-0.3, 0.3, u) * (1 if s < 0.5 else -1)
        things += loose(name, x, 0.72 + 0.52 * 4 * u * (1 - u), TAU * s, 0.62)
    bob = 0.05 * wave(2 * p)
    pose = Pose(
        (0, 0.46), 0.0, ((-0.28, 0.62 + bob), (0.28, 0.62 - bob)), ((-0.1, 0), (0.1, 0)), elbows=(-1, 1)
    )
    return Shot(pose, front=things)


def _stand_by(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    pose = Pose((-0.18, 0.46), 0.0, ((-0.3, 0.45), (-0.1, 0.43)), ((-0.26, 0), (-0.1, 0)), nod=0.1 * wave(p))
    return Shot(pose, front=loose(name, 0.16 + 0.5 * thing.half_width, thing.half_height))


ACTIONS: dict[str, Action] = {
    "kicking": _kick,
    "lifting": _lift,
    "carrying": _carry,
    "pushing": _push,
    "pulling": _pull,
    "throwing": _throw,
    "jumping over": _jump_over,
    "sitting on": _sit_on,
    "balancing": _balance,
    "rolling": _roll,
    "juggling": _juggle,
    "standing by": _stand_by,
}
