"""Actions with something in the hand (flag, hammer …), each a function of phase and object.

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
    held,
    loose,
    mix,
    ramp,
    there_and_back,
    wave,
)
from ga2clip.data.stickfigures.objects import HELD, LOOSE, oval
from ga2clip.data.stickfigures.strokes import Disc, Frame, Line, Shape, Stroke, place


def _wave(p: float, name: str) -> Shot:
    swing = 0.75 * wave(p)
    hand = (0.08 + 0.26 * math.sin(swing), 0.76 + 0.34 * math.cos(swing) - 0.06)
    pose = Pose((-0.04, 0.46), 0.12 * wave(p), ((-0.2, 0.5), hand), ((-0.14, 0), (0.08, 0)))
    if name == "hand":
        palm = [Line("skin", 0.03, [hand, (hand[0] + d, hand[1] + 0.09)]) for d in (-0.06, 0.0, 0.06)]
        return Shot(pose, front=list(palm))
    return Shot(pose, front=held(name, hand, -1.1 * swing, 0.85))


def _hold(p: float, name: str) -> Shot:
    hand = (0.13, 0.68 + 0.01 * wave(p))
    pose = Pose((-0.04, 0.46), 0.0, ((-0.14, 0.44), hand), ((-0.1, 0), (0.04, 0)), nod=0.1 * wave(p))
    tilt = -0.05 + 0.06 * wave(p)
    scale = 1.3 if name == "umbrella" else 1.0
    return Shot(pose, behind=held(name, hand, tilt, scale))


def _swing(p: float, name: str) -> Shot:
    angle = mix(2.5, -0.25, ramp(p, 0.3, 0.6)) + 2.75 * ramp(p, 0.75, 1.0)
    lean = mix(0.45, -0.25, (angle + 0.25) / 2.75)
    hip = (-0.12, 0.43)
    top = shoulder(hip, lean)
    hand = (top[0] + 0.27 * math.cos(angle), top[1] + 0.27 * math.sin(angle))
    second = (top[0] + 0.33 * math.cos(angle), top[1] + 0.33 * math.sin(angle))
    pose = Pose(hip, lean, (second, hand), ((-0.3, 0), (0.1, 0)))
    return Shot(pose, held=held(name, hand, angle - math.pi / 2))


def _play(p: float, name: str) -> Shot:
    beat = 0.06 * wave(2 * p)
    if name == "drum":
        hands = ((0.12, 0.66 + beat), (0.22, 0.66 - beat))
        sticks = [
            *held("stick", hands[0], -1.9 + 3 * beat),
            *held("stick", hands[1], -1.9 - 3 * beat),
        ]
        pose = Pose((-0.12, 0.46), 0.05, hands, ((-0.2, 0), (0.0, 0)), nod=beat)
        return Shot(pose, behind=loose("drum", 0.27, 0.4, 0.0, 1.25), front=sticks)
    if name == "piano":
        stool: list[Stroke] = [
            Line("ink", 0.06, [(-0.3, 0.26), (-0.1, 0.26)]),
            Line("ink", 0.04, [(-0.2, 0.26), (-0.2, 0)]),
        ]
        pose = Pose((-0.2, 0.3), 0.1, ((0.1, 0.5 + beat), (0.06, 0.5 - beat)), ((0.05, 0), (0.08, 0)))
        return Shot(pose, behind=[*stool, *fixed("piano", 0.16)])
    hip = (-0.04, 0.46)
    pose = Pose(hip, -0.08, ((0.28, 0.78), (0.0, 0.56 + beat)), ((-0.16, 0), (0.1, 0)), nod=beat * 2)
    return Shot(pose, held=loose("guitar", 0.04, 0.6, 0.55, 1.05))


def _sweep(p: float, _name: str) -> Shot:
    stroke = 0.14 * wave(p)
    low = (0.26 + stroke, 0.02)
    high = (0.02 + stroke / 2, 0.66)
    angle = math.atan2(low[0] - high[0], high[1] - low[1])
    middle = (mix(low[0], high[0], 0.92), mix(low[1], high[1], 0.92))
    hands = ((mix(low[0], high[0], 0.65), mix(low[1], high[1], 0.65)), middle)
    pose = Pose((-0.16, 0.44), 0.3, hands, ((-0.28, 0), (-0.02, 0)))
    return Shot(pose, held=held("broom", middle, angle))


def _dig(p: float, _name: str) -> Shot:
    push = there_and_back(p)
    grip = (0.1 - 0.08 * push, mix(0.62, 0.46, push))
    angle = mix(0.35, 0.8, push)
    along = (math.sin(angle), -math.cos(angle))
    hands = (
        (grip[0] + 0.22 * along[0], grip[1] + 0.22 * along[1]),
        (grip[0] - 0.1 * along[0], grip[1] - 0.1 * along[1]),
    )
    pose = Pose((-0.18, 0.4), mix(0.4, 0.75, push), hands, ((-0.3, 0), (0.02, 0)))
    return Shot(pose, behind=fixed("hole", 0.34), held=held("shovel", grip, angle))


def _shoot(p: float, _name: str) -> Shot:
    pull_back = ramp(p, 0.0, 0.5) * (1 - ramp(p, 0.6, 0.65))
    top_y = 0.78
    bow = (0.2, top_y)
    nock = (mix(0.1, -0.12, pull_back), top_y)
    flight = ramp(p, 0.6, 1.0)
    tip = nock[0] + 0.32 + 0.5 * flight
    pose = Pose((-0.14, 0.46), 0.0, (bow, nock), ((-0.28, 0), (0.04, 0)))
    return Shot(pose, front=[*held("bow", bow, 0.0), *held("arrow", (tip, top_y), 0.0)])


def _water(p: float, _name: str) -> Shot:
    tilt = -0.35 + 0.1 * wave(p)
    hand = (0.04, 0.62)
    drops: list[Stroke] = [
        Disc("drops", (0.36 + 0.03 * k, 0.62 - 0.3 * ((p * 2 + k / 4) % 1.0)), 0.022) for k in range(4)
    ]
    pose = Pose((-0.24, 0.45), 0.2, ((-0.1, 0.5), hand), ((-0.32, 0), (-0.14, 0)))
    return Shot(pose, behind=fixed("plant", 0.4), front=[*held("can", (0.08, 0.7), tilt), *drops])


def _saw(p: float, _name: str) -> Shot:
    slide = 0.09 * wave(2 * p)
    hand = (0.02 + slide, 0.56)
    pose = Pose((-0.22, 0.43), 0.45, ((0.12, 0.46), hand), ((-0.36, 0), (-0.08, 0)))
    wood = place(LOOSE["log"].strokes, Frame(0.32, 0.42, 0.0, 1.05))
    return Shot(pose, behind=[*fixed("trestle", 0.34), *wood], held=held("saw", hand, -0.25))


def _blow(p: float, _name: str) -> Shot:
    nod = 0.12 * wave(p)
    mouth = (0.02, 0.88 + 0.05 * wave(p))
    pose = Pose(
        (-0.1, 0.46), -0.1, ((0.2, mouth[1] - 0.04), (0.1, mouth[1] - 0.05)), ((-0.18, 0), (0.02, 0)), nod=nod
    )
    return Shot(pose, front=held("trumpet", mouth, 0.15 + nod))


def _stir(p: float, _name: str) -> Shot:
    a = TAU * p
    hand = (0.2 + 0.07 * math.cos(a), 0.68 + 0.02 * math.sin(a))
    pose = Pose((-0.2, 0.45), 0.2, ((-0.1, 0.48), hand), ((-0.28, 0), (-0.1, 0)))
    pot = place(LOOSE["pot"].strokes, Frame(0.26, 0.36, 0.0, 1.15))
    return Shot(pose, behind=[*held("spoon", hand, 0.3 * math.cos(a)), *pot, *fixed("fire", 0.26)])


def _fish(p: float, _name: str) -> Shot:
    lift_rod = 0.12 * wave(p)
    hand = (-0.08, 0.58)
    rod = Frame(hand[0], hand[1], lift_rod)
    tip = rod.map([(0.45, 0.42)])[0]
    line = cord([tip, (tip[0] + 0.06, 0.08)], 0.014)
    pond = [Shape("drops", oval(0.44, 0.03, 0.3, 0.06))]
    pose = Pose((-0.34, 0.3), -0.1, ((-0.04, 0.62), hand), ((-0.06, 0), (-0.1, 0)))
    seat = place(LOOSE["box"].strokes, Frame(-0.36, 0.13, 0.0, 0.9))
    return Shot(
        pose,
        behind=[*pond, *seat],
        front=[*place(HELD["rod"].strokes, rod), *line, Disc("main", (tip[0] + 0.06, 0.08), 0.035)],
    )


def _read(p: float, _name: str) -> Shot:
    spot = (0.16, 0.76 + 0.015 * wave(p))
    pose = Pose((-0.08, 0.3), -0.05, ((0.02, 0.68), (0.06, 0.66)), ((0.16, 0), (0.22, 0)), nod=0.25)
    stool: list[Stroke] = [
        Line("ink", 0.06, [(-0.2, 0.25), (0.04, 0.25)]),
        Line("ink", 0.05, [(-0.08, 0.25), (-0.08, 0)]),
    ]
    return Shot(pose, behind=stool, front=held("newspaper", spot, 0.08, 1.1))


def _paint_wall(p: float, _name: str) -> Shot:
    y = 0.82 + 0.2 * wave(p)
    hand = (0.16, y - 0.12)
    patch: list[Stroke] = [
        Shape("second", [(0.28, 0.1), (0.6, 0.1), (0.6, 1.35), (0.28, 1.35)]),
        Shape("main", [(0.28, 0.55), (0.6, 0.5), (0.6, 1.2), (0.28, 1.15)]),
    ]
    pose = Pose((-0.14, 0.46), 0.1, ((-0.24, 0.5), hand), ((-0.22, 0), (-0.04, 0)))
    return Shot(pose, behind=patch, front=held("brush", hand, -0.5, 1.1))


ACTIONS: dict[str, Action] = {
    "waving": _wave,
    "holding": _hold,
    "swinging": _swing,
    "playing": _play,
    "sweeping": _sweep,
    "digging": _dig,
    "shooting": _shoot,
    "watering": _water,
    "sawing": _saw,
    "blowing": _blow,
    "stirring": _stir,
    "fishing": _fish,
    "reading": _read,
    "painting": _paint_wall,
}
