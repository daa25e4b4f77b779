"""What an action looks like: a phase in [0, 1) and the name of an object go in, a `Shot` (pose and props) comes out.

Every verb is a pure function of the phase; the motion is drawn so that most single phases show the verb. World
units; the figure looks to the right and stands round x = 0. A verb that takes loose objects works for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ga2clip.data.stickfigures.figure import Body, Pose, figure_strokes, shoulder
from ga2clip.data.stickfigures.objects import FIXED, HELD, LOOSE, oval
from ga2clip.data.stickfigures.strokes import Disc, Frame, Line, Point, Ring, Shape, Stroke, place

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


def _wave(p: float) -> float:
    return math.sin(TAU * p)


def _there_and_back(p: float) -> float:
    """0 at the ends, 1 in the middle, smooth."""
    return 0.5 - 0.5 * math.cos(TAU * p)


def _mix(a: float, b: float, t: float) -> float:
    return a + (b - a) * t


def _ramp(p: float, start: float, stop: float) -> float:
    """0 before `start`, 1 after `stop`, smooth between."""
    t = min(1.0, max(0.0, (p - start) / (stop - start)))
    return t * t * (3 - 2 * t)


def _steps(p: float, x: float, stride: float = 0.18, lift: float = 0.1) -> tuple[Point, Point]:
    """The feet of a walk that stays at x."""
    phases = (p, p + 0.5)
    left, right = ((x + stride * math.cos(TAU * s), max(0.0, lift * _wave(s))) for s in phases)
    return left, right


def _loose(name: str, x: float, y: float, angle: float = 0.0, scale: float = 1.0) -> list[Stroke]:
    return place(LOOSE[name].strokes, Frame(x, y, angle, scale))


def _held(name: str, grip: Point, angle: float, scale: float = 1.0) -> list[Stroke]:
    return place(HELD[name].strokes, Frame(grip[0], grip[1], angle, scale))


def _fixed(name: str, x: float, y: float = 0.0, angle: float = 0.0, scale: float = 1.0) -> list[Stroke]:
    return place(FIXED[name].strokes, Frame(x, y, angle, scale))


def _rope(points: list[Point], width: float = 0.018) -> list[Stroke]:
    return [Line("ink", width, points)]


# --- with a loose object ---------------------------------------------------------------------------------------


def kick(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    swing = _mix(-0.9, 1.15, _ramp(p, 0.1, 0.4)) - 2.05 * _ramp(p, 0.8, 1.0)
    hip = (-0.22, 0.46)
    flight = max(0.0, (p - 0.32) / 0.68)
    x, y = _mix(0.06 + thing.half_width, 0.6, flight), thing.half_height + 0.9 * flight * (1.15 - flight)
    foot = (hip[0] + 0.45 * math.sin(swing), hip[1] - 0.45 * math.cos(swing))
    pose = Pose(hip, -0.25 * swing, ((-0.5, 0.62), (0.08, 0.68)), ((-0.26, 0), foot))
    return Shot(pose, front=_loose(name, x, y, -4 * flight))


def lift(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    up = min(1.0, 1.35 * _there_and_back(p))
    hip = (0.0, _mix(0.24, 0.46, up))
    y = _mix(thing.half_height, 1.06 + 0.6 * thing.half_height, up)
    hands = ((-thing.grip, y - 0.3 * thing.half_height), (thing.grip, y - 0.3 * thing.half_height))
    if thing.half_width > 0.3:
        hands = ((-thing.grip, y), (thing.grip, y))
    pose = Pose(hip, 0.0, hands, ((-0.17, 0), (0.17, 0)), elbows=(-1, 1), knees=(-1, 1))
    return Shot(pose, held=_loose(name, 0.0, y))


def carry(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    hip = (-0.1, 0.45 + 0.015 * _wave(2 * p))
    feet = _steps(p, -0.1)
    if thing.half_width > 0.3 or name == "guitar":
        top = shoulder(hip, 0.0)
        spot = (top[0] + 0.02, top[1] + 0.02 + 0.5 * thing.half_height)
        pose = Pose(hip, 0.0, ((spot[0] + 0.16, spot[1] - 0.02), (spot[0] + 0.12, spot[1] - 0.02)), feet)
        return Shot(pose, held=_loose(name, *spot, angle=0.05 * _wave(p)))
    spot = (0.06 + thing.half_width, 0.62 + 0.015 * _wave(2 * p))
    under = (spot[0] + 0.3 * thing.half_width, spot[1] - thing.half_height)
    pose = Pose(hip, -0.12, (under, (spot[0] - 0.5 * thing.half_width, under[1] + 0.02)), feet)
    return Shot(pose, held=_loose(name, *spot, angle=0.05 * _wave(p)))


def push(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    shove = 0.05 * _wave(p)
    height = min(0.5, 1.5 * thing.half_height)
    hands = ((0.15 + shove, height), (0.13 + shove, height * 0.85))
    pose = Pose((-0.27 + shove / 2, 0.4), 0.75, hands, _steps(p, -0.45, 0.16))
    return Shot(pose, front=_loose(name, 0.16 + thing.half_width + shove, thing.half_height))


def pull(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    tug = 0.06 * _wave(p)
    hands = ((-0.06 - tug, 0.56), (-0.16 - tug, 0.54))
    x = 0.36 + thing.half_width - tug
    pose = Pose((-0.34 - tug / 2, 0.38), -0.45, hands, _steps(p, -0.08, 0.1, 0.05))
    rope = _rope([(-0.2 - tug, 0.53), (0.05, 0.46), (x - 0.7 * thing.half_width, thing.half_height)], 0.022)
    return Shot(pose, held=[*rope, *_loose(name, x, thing.half_height)])


def throw(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    hip = (-0.22, 0.45)
    turn = _ramp(p, 0.15, 0.5)
    lean = _mix(-0.35, 0.4, turn)
    top = shoulder(hip, lean)
    angle = _mix(2.6, 0.15, turn)
    hand = (top[0] + 0.34 * math.cos(angle), top[1] + 0.34 * math.sin(angle))
    flight = max(0.0, (p - 0.42) / 0.58)
    spot = (hand[0] + 0.8 * thing.half_width * math.cos(angle), hand[1] + thing.half_height * 0.8)
    if flight:
        spot = (0.2 + 0.42 * flight, 1.12 + 0.3 * flight - 0.55 * flight**2)
    other = (top[0] + _mix(0.3, -0.2, turn), top[1] + _mix(0.08, -0.2, turn))
    pose = Pose(hip, lean, (other, hand), ((-0.4, 0), (0.02, 0)))
    return Shot(pose, front=_loose(name, *spot, angle=-5 * flight, scale=0.9))


def jump_over(p: float, name: str) -> Shot:
    loose = name in LOOSE
    half_height = LOOSE[name].half_height if loose else 0.16
    x, air = _mix(-0.42, 0.42, p), 4 * p * (1 - p)
    hip = (x, 0.42 + (0.2 + min(0.16, half_height)) * air)
    feet = (
        (x - _mix(0.05, 0.3, air), hip[1] - _mix(0.42, 0.16, air)),
        (x + _mix(0.05, 0.34, air), hip[1] - _mix(0.42, 0.05, air)),
    )
    top = shoulder(hip, 0.25)
    hands = ((top[0] - 0.25, top[1] + 0.2 * air), (top[0] + 0.28, top[1] + 0.22 * air))
    thing = _loose(name, 0, half_height) if loose else _fixed(name, 0)
    return Shot(Pose(hip, 0.25, hands, feet), behind=thing)


def sit_on(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    seat = 0.27 if name == "chair" else 2 * thing.half_height
    hip = (0.0, seat + 0.03)
    sway = 0.05 * _wave(p)
    top = shoulder(hip, sway)
    hands = ((0.22, seat + 0.08), (0.2 + sway, seat + 0.1))
    knee = min(0.24, seat + 0.06)
    pose = Pose(hip, sway, hands, ((0.24 + knee * 0.1, 0), (0.28 + knee * 0.2, 0)), nod=2 * sway)
    assert top[1] < 1.2
    return Shot(pose, behind=_loose(name, 0.0, thing.half_height))


def balance(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    sway = 0.06 * _wave(p)
    hip = (-0.02 * sway, 0.44)
    arms = 0.1 * _wave(p + 0.1)
    hands = ((-0.36, 0.78 + arms), (0.36, 0.78 - arms))
    foot = (0.16, 0.2 + 0.03 * _wave(p))
    pose = Pose(hip, -sway, hands, ((-0.02, 0), foot))
    return Shot(pose, behind=_loose(name, sway, 0.98 + thing.half_height, -sway * 2))


def roll(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    x, scale = 0.22, 1.35
    y = thing.half_height * scale
    hand = (0.1, y * 1.75)
    pose = Pose((-0.2, 0.43), 0.4, (hand, (0.0, y * 1.5)), _steps(p, -0.24, 0.2))
    return Shot(pose, behind=_loose(name, x, y, -TAU * p / 4, scale))


def juggle(p: float, name: str) -> Shot:
    things: list[Stroke] = []
    for k in range(3):
        s = (p + k / 3) % 1.0
        u = (2 * s) % 1.0
        x = _mix(-0.3, 0.3, u) * (1 if s < 0.5 else -1)
        things += _loose(name, x, 0.72 + 0.52 * 4 * u * (1 - u), TAU * s, 0.62)
    bob = 0.05 * _wave(2 * p)
    pose = Pose(
        (0, 0.46), 0.0, ((-0.28, 0.62 + bob), (0.28, 0.62 - bob)), ((-0.1, 0), (0.1, 0)), elbows=(-1, 1)
    )
    return Shot(pose, front=things)


def stand_by(p: float, name: str) -> Shot:
    thing = LOOSE[name]
    pose = Pose((-0.18, 0.46), 0.0, ((-0.3, 0.45), (-0.1, 0.43)), ((-0.26, 0), (-0.1, 0)), nod=0.1 * _wave(p))
    return Shot(pose, front=_loose(name, 0.16 + 0.5 * thing.half_width, thing.half_height))


# --- with a held object ----------------------------------------------------------------------------------------


def wave(p: float, name: str) -> Shot:
    swing = 0.75 * _wave(p)
    hand = (0.08 + 0.26 * math.sin(swing), 0.76 + 0.34 * math.cos(swing) - 0.06)
    pose = Pose((-0.04, 0.46), 0.12 * _wave(p), ((-0.2, 0.5), hand), ((-0.14, 0), (0.08, 0)))
    if name == "hand":
        palm = [Line("skin", 0.03, [hand, (hand[0] + d, hand[1] + 0.09)]) for d in (-0.06, 0.0, 0.06)]
        return Shot(pose, front=list(palm))
    return Shot(pose, front=_held(name, hand, -1.1 * swing, 0.85))


def hold(p: float, name: str) -> Shot:
    hand = (0.13, 0.68 + 0.01 * _wave(p))
    pose = Pose((-0.04, 0.46), 0.0, ((-0.14, 0.44), hand), ((-0.1, 0), (0.04, 0)), nod=0.1 * _wave(p))
    tilt = -0.05 + 0.06 * _wave(p)
    scale = 1.3 if name == "umbrella" else 1.0
    return Shot(pose, behind=_held(name, hand, tilt, scale))


def swing(p: float, name: str) -> Shot:
    angle = _mix(2.5, -0.25, _ramp(p, 0.3, 0.6)) + 2.75 * _ramp(p, 0.75, 1.0)
    lean = _mix(0.45, -0.25, (angle + 0.25) / 2.75)
    hip = (-0.12, 0.43)
    top = shoulder(hip, lean)
    hand = (top[0] + 0.27 * math.cos(angle), top[1] + 0.27 * math.sin(angle))
    second = (top[0] + 0.33 * math.cos(angle), top[1] + 0.33 * math.sin(angle))
    pose = Pose(hip, lean, (second, hand), ((-0.3, 0), (0.1, 0)))
    return Shot(pose, held=_held(name, hand, angle - math.pi / 2))


def play(p: float, name: str) -> Shot:
    beat = 0.06 * _wave(2 * p)
    if name == "drum":
        hands = ((0.12, 0.66 + beat), (0.22, 0.66 - beat))
        sticks = [
            *_held("stick", hands[0], -1.9 + 3 * beat),
            *_held("stick", hands[1], -1.9 - 3 * beat),
        ]
        pose = Pose((-0.12, 0.46), 0.05, hands, ((-0.2, 0), (0.0, 0)), nod=beat)
        return Shot(pose, behind=_loose("drum", 0.27, 0.4, 0.0, 1.25), front=sticks)
    if name == "piano":
        stool: list[Stroke] = [
            Line("ink", 0.06, [(-0.3, 0.26), (-0.1, 0.26)]),
            Line("ink", 0.04, [(-0.2, 0.26), (-0.2, 0)]),
        ]
        pose = Pose((-0.2, 0.3), 0.1, ((0.1, 0.5 + beat), (0.06, 0.5 - beat)), ((0.05, 0), (0.08, 0)))
        return Shot(pose, behind=[*stool, *_fixed("piano", 0.16)])
    hip = (-0.04, 0.46)
    pose = Pose(hip, -0.08, ((0.28, 0.78), (0.0, 0.56 + beat)), ((-0.16, 0), (0.1, 0)), nod=beat * 2)
    return Shot(pose, held=_loose("guitar", 0.04, 0.6, 0.55, 1.05))


def sweep(p: float, name: str) -> Shot:
    stroke = 0.14 * _wave(p)
    low = (0.26 + stroke, 0.02)
    high = (0.02 + stroke / 2, 0.66)
    angle = math.atan2(low[0] - high[0], high[1] - low[1])
    middle = (_mix(low[0], high[0], 0.92), _mix(low[1], high[1], 0.92))
    hands = ((_mix(low[0], high[0], 0.65), _mix(low[1], high[1], 0.65)), middle)
    pose = Pose((-0.16, 0.44), 0.3, hands, ((-0.28, 0), (-0.02, 0)))
    return Shot(pose, held=_held("broom", middle, angle))


def dig(p: float, name: str) -> Shot:
    push = _there_and_back(p)
    grip = (0.1 - 0.08 * push, _mix(0.62, 0.46, push))
    angle = _mix(0.35, 0.8, push)
    along = (math.sin(angle), -math.cos(angle))
    hands = (
        (grip[0] + 0.22 * along[0], grip[1] + 0.22 * along[1]),
        (grip[0] - 0.1 * along[0], grip[1] - 0.1 * along[1]),
    )
    pose = Pose((-0.18, 0.4), _mix(0.4, 0.75, push), hands, ((-0.3, 0), (0.02, 0)))
    return Shot(pose, behind=_fixed("hole", 0.34), held=_held("shovel", grip, angle))


def shoot(p: float, name: str) -> Shot:
    pull_back = _ramp(p, 0.0, 0.5) * (1 - _ramp(p, 0.6, 0.65))
    top_y = 0.78
    bow = (0.2, top_y)
    nock = (_mix(0.1, -0.12, pull_back), top_y)
    flight = _ramp(p, 0.6, 1.0)
    tip = nock[0] + 0.32 + 0.5 * flight
    pose = Pose((-0.14, 0.46), 0.0, (bow, nock), ((-0.28, 0), (0.04, 0)))
    return Shot(pose, front=[*_held("bow", bow, 0.0), *_held("arrow", (tip, top_y), 0.0)])


def water(p: float, name: str) -> Shot:
    tilt = -0.35 + 0.1 * _wave(p)
    hand = (0.04, 0.62)
    drops: list[Stroke] = [
        Disc("drops", (0.36 + 0.03 * k, 0.62 - 0.3 * ((p * 2 + k / 4) % 1.0)), 0.022) for k in range(4)
    ]
    pose = Pose((-0.24, 0.45), 0.2, ((-0.1, 0.5), hand), ((-0.32, 0), (-0.14, 0)))
    return Shot(pose, behind=_fixed("plant", 0.4), front=[*_held("can", (0.08, 0.7), tilt), *drops])


def saw(p: float, name: str) -> Shot:
    slide = 0.09 * _wave(2 * p)
    hand = (0.02 + slide, 0.56)
    pose = Pose((-0.22, 0.43), 0.45, ((0.12, 0.46), hand), ((-0.36, 0), (-0.08, 0)))
    wood = place(LOOSE["log"].strokes, Frame(0.32, 0.42, 0.0, 1.05))
    return Shot(pose, behind=[*_fixed("trestle", 0.34), *wood], held=_held("saw", hand, -0.25))


def blow(p: float, name: str) -> Shot:
    nod = 0.12 * _wave(p)
    mouth = (0.02, 0.88 + 0.05 * _wave(p))
    pose = Pose(
        (-0.1, 0.46), -0.1, ((0.2, mouth[1] - 0.04), (0.1, mouth[1] - 0.05)), ((-0.18, 0), (0.02, 0)), nod=nod
    )
    return Shot(pose, front=_held("trumpet", mouth, 0.15 + nod))


def stir(p: float, name: str) -> Shot:
    a = TAU * p
    hand = (0.2 + 0.07 * math.cos(a), 0.68 + 0.02 * math.sin(a))
    pose = Pose((-0.2, 0.45), 0.2, ((-0.1, 0.48), hand), ((-0.28, 0), (-0.1, 0)))
    pot = place(LOOSE["pot"].strokes, Frame(0.26, 0.36, 0.0, 1.15))
    return Shot(pose, behind=[*_held("spoon", hand, 0.3 * math.cos(a)), *pot, *_fixed("fire", 0.26)])


def fish(p: float, name: str) -> Shot:
    lift_rod = 0.12 * _wave(p)
    hand = (-0.08, 0.58)
    rod = Frame(hand[0], hand[1], lift_rod)
    tip = rod.map([(0.45, 0.42)])[0]
    line = _rope([tip, (tip[0] + 0.06, 0.08)], 0.014)
    pond = [Shape("drops", oval(0.44, 0.03, 0.3, 0.06))]
    pose = Pose((-0.34, 0.3), -0.1, ((-0.04, 0.62), hand), ((-0.06, 0), (-0.1, 0)))
    seat = place(LOOSE["box"].strokes, Frame(-0.36, 0.13, 0.0, 0.9))
    return Shot(
        pose,
        behind=[*pond, *seat],
        front=[*place(HELD["rod"].strokes, rod), *line, Disc("main", (tip[0] + 0.06, 0.08), 0.035)],
    )


def read(p: float, name: str) -> Shot:
    spot = (0.16, 0.76 + 0.015 * _wave(p))
    pose = Pose((-0.08, 0.3), -0.05, ((0.02, 0.68), (0.06, 0.66)), ((0.16, 0), (0.22, 0)), nod=0.25)
    stool: list[Stroke] = [
        Line("ink", 0.06, [(-0.2, 0.25), (0.04, 0.25)]),
        Line("ink", 0.05, [(-0.08, 0.25), (-0.08, 0)]),
    ]
    return Shot(pose, behind=stool, front=_held("newspaper", spot, 0.08, 1.1))


def paint_wall(p: float, name: str) -> Shot:
    y = 0.82 + 0.2 * _wave(p)
    hand = (0.16, y - 0.12)
    patch: list[Stroke] = [
        Shape("second", [(0.28, 0.1), (0.6, 0.1), (0.6, 1.35), (0.28, 1.35)]),
        Shape("main", [(0.28, 0.55), (0.6, 0.5), (0.6, 1.2), (0.28, 1.15)]),
    ]
    pose = Pose((-0.14, 0.46), 0.1, ((-0.24, 0.5), hand), ((-0.22, 0), (-0.04, 0)))
    return Shot(pose, behind=patch, front=_held("brush", hand, -0.5, 1.1))


# --- with something fixed --------------------------------------------------------------------------------------


def ride(p: float, name: str) -> Shot:
    bob = 0.02 * _wave(2 * p)
    c, s = 0.1 * math.cos(TAU * p), 0.1 * math.sin(TAU * p)
    if name == "bike":
        pose = Pose((-0.13, 0.52), 0.45, ((0.24, 0.62), (0.28, 0.6)), ((c, 0.2 + s), (-c, 0.2 - s)))
        return Shot(pose, behind=_fixed("bike", 0))
    if name == "scooter":
        pose = Pose(
            (-0.1, 0.56), 0.2, ((0.14, 0.64), (0.18, 0.62)), ((-0.05, 0.13), (-0.28 + 1.5 * c, 0.06 + abs(s)))
        )
        return Shot(pose, behind=_fixed("scooter", 0))
    if name == "sled":
        pose = Pose((-0.14, 0.2 + bob), -0.25, ((0.2, 0.38), (0.24, 0.36)), ((0.22, 0.2), (0.26, 0.2)))
        rope = _rope([(0.24, 0.37), (0.4, 0.16)])
        return Shot(pose, behind=_loose("sled", 0.02, 0.13 + bob, 0.08 * _wave(p), 1.5), front=rope)
    legs = [
        Line("main", 0.075, [(x, 0.36 + bob), (x + 0.08 * _wave(p + k / 4), 0.0)])
        for k, x in enumerate((-0.28, -0.2, 0.18, 0.26))
    ]
    scale = 0.95
    pose = Pose(
        (-0.04, 0.56 + bob), 0.1, ((0.24, 0.68), (0.26, 0.66)), ((0.08, 0.26 + bob), (0.1, 0.24 + bob))
    )
    return Shot(pose, behind=[*legs, *_fixed(name, 0, bob, 0.0, scale)])


def skate(p: float, name: str) -> Shot:
    sway = 0.12 * _wave(p)
    pose = Pose(
        (-0.02, 0.46),
        sway,
        ((-0.36, 0.86 + sway), (0.34, 0.8 - sway)),
        ((-0.2, 0.15), (0.2, 0.15)),
        knees=(-1, 1),
    )
    return Shot(pose, behind=_fixed("skateboard", 0, 0, 0.1 * _wave(p + 0.2)))


def drive(p: float, name: str) -> Shot:
    bob = 0.015 * _wave(2 * p)
    pose = Pose((-0.12, 0.34 + bob), -0.12, ((0.12, 0.56), (0.1, 0.54 + 2 * bob)), ((0.1, 0.3), (0.12, 0.3)))
    wheel: list[Stroke] = [Line("ink", 0.03, [(0.06, 0.5), (0.14, 0.62)])]
    return Shot(pose, front=[*wheel, *_fixed("car", 0, bob)])


def row(p: float, name: str) -> Shot:
    c, s = math.cos(TAU * p), math.sin(TAU * p)
    grip = (0.14 + 0.1 * c, 0.5 + 0.05 * s)
    blade = -0.75 * c
    pose = Pose((-0.12, 0.22), 0.3 * c, ((grip[0] + 0.03, grip[1]), grip), ((0.2, 0.16), (0.24, 0.16)))
    waves = Line("drops", 0.04, [(-0.72 + 0.12 * k, 0.03 * (-1) ** k) for k in range(13)])
    oar = _held("oar", grip, blade, 1.05)
    return Shot(pose, front=[*_fixed(name, 0, 0.02 * s), *oar, waves])


def climb(p: float, name: str) -> Shot:
    step = 0.12 * _wave(p)
    y = 0.52 + 0.06 * _wave(2 * p)
    x = 0.16
    lean = 0.12
    narrow = 0.0 if name in ("rope", "pole") else 0.09
    hands = ((x - narrow, y + 0.62 + step), (x + narrow, y + 0.62 - step))
    feet = ((x - narrow, y - 0.3 - step), (x + narrow, y - 0.3 + step))
    pose = Pose((x - 0.17 + narrow, y), lean, hands, feet)
    if name == "fence":
        return Shot(pose, behind=_fixed("fence", x, 0, 0, 2.1))
    return Shot(pose, behind=_fixed(name, x))


def walk_animal(p: float, name: str) -> Shot:
    hand = (0.06, 0.5)
    pose = Pose((-0.18, 0.45), 0.08, ((-0.3, 0.46), hand), _steps(p, -0.18))
    trot = Frame(0.38, 0.02 * abs(_wave(2 * p)), 0.06 * _wave(2 * p), 1.15)
    neck = trot.map([(0.14, 0.26)])[0]
    return Shot(pose, behind=place(FIXED[name].strokes, trot), front=_rope([hand, (0.24, 0.36), neck]))


def fly(p: float, name: str) -> Shot:
    sway = 0.06 * _wave(p)
    spot = (0.42 + sway, 1.12 + 0.05 * _wave(p + 0.3))
    hand = (-0.04, 0.86 + 0.04 * _wave(p))
    pose = Pose((-0.28, 0.46), -0.15, ((-0.1, 0.76), hand), _steps(p / 2, -0.28, 0.12), nod=-0.2)
    string = _rope([hand, (0.2, 0.9), spot], 0.014)
    return Shot(pose, front=[*string, *_fixed("kite", *spot, angle=-0.4 + 4 * sway, scale=1.15)])


def punch(p: float, name: str) -> Shot:
    jab, cross = max(0.0, _wave(p)), max(0.0, -_wave(p))
    tilt = 0.16 * max(jab, cross)
    hip = (-0.22, 0.44)
    top = shoulder(hip, 0.18)
    hands = ((top[0] + 0.14 + 0.2 * jab, top[1] + 0.02), (top[0] + 0.14 + 0.2 * cross, top[1] - 0.02))
    gloves: list[Stroke] = [Disc("ink", hand, 0.055) for hand in hands]
    pose = Pose(hip, 0.18, hands, ((-0.4, 0), (-0.06, 0)), elbows=(1, 1))
    return Shot(pose, behind=_fixed("bag", 0.36, 1.42, tilt), front=gloves)


def hang(p: float, name: str) -> Shot:
    sway = 0.16 * _wave(p)
    hip = (0.3 * sway, 0.62)
    feet = ((hip[0] - 0.04 + sway, 0.2), (hip[0] + 0.06 + sway, 0.2))
    pose = Pose(hip, -0.3 * sway, ((-0.15, 1.26), (0.15, 1.26)), feet)
    return Shot(pose, behind=_fixed("bar", 0))


def crawl(p: float, name: str) -> Shot:
    c = 0.08 * math.cos(TAU * p)
    pose = Pose(
        (-0.18, 0.27), 1.38, ((0.16 + c, 0), (0.2 - c, 0)), ((-0.4 - c, 0.02), (-0.4 + c, 0.02)), nod=-0.7
    )
    return Shot(pose, behind=_fixed("table", 0.02, 0, 0, 1.15))


def bounce(p: float, name: str) -> Shot:
    air = 4 * p * (1 - p)
    hip = (0.0, 0.62 + 0.2 * air)
    top = shoulder(hip, 0.0)
    spread = 0.16 * air
    hands = ((-0.3, top[1] + 0.2 * air), (0.3, top[1] + 0.2 * air))
    feet = ((-0.08 - spread, hip[1] - 0.42), (0.08 + spread, hip[1] - 0.42))
    pose = Pose(hip, 0.0, hands, feet, elbows=(-1, 1), knees=(-1, 1))
    return Shot(pose, behind=_fixed("trampoline", 0))


def skip(p: float, name: str) -> Shot:
    a = TAU * p
    hop = 0.07 * max(0.0, -math.cos(a))
    hip = (0.0, 0.46 + hop)
    hands = ((-0.27, 0.55 + hop), (0.27, 0.55 + hop))
    height = 0.62 * math.cos(a)
    loop = [(x * 0.5, hands[0][1] + height * (1 - abs(x) ** 2.5)) for x in (i / 8 for i in range(-8, 9))]
    rope = _rope([hands[0], *loop, hands[1]], 0.028)
    pose = Pose(hip, 0.0, hands, ((-0.06, hop), (0.06, hop)), elbows=(-1, 1))
    return Shot(pose, behind=rope if math.sin(a) > 0 else [], front=rope if math.sin(a) <= 0 else [])


def spin_hoop(p: float, name: str) -> Shot:
    a = TAU * p
    sway = 0.06 * math.cos(a)
    hip = (sway, 0.46)
    pose = Pose(hip, -sway, ((-0.3, 0.95), (0.3, 0.95)), ((-0.12, 0), (0.12, 0)), elbows=(-1, 1))
    ring = Frame(-sway, 0.52, 0.2 * math.sin(a))
    back = place([Line("main", 0.05, oval(0, 0, 0.36, 0.11, 0, math.pi))], ring)
    front = place([Line("main", 0.05, oval(0, 0, 0.36, 0.11, math.pi, TAU))], ring)
    return Shot(pose, behind=back, front=front)


# --- without an object -----------------------------------------------------------------------------------------


def run(p: float, name: str) -> Shot:
    c = 0.24 * math.cos(TAU * p)
    hip = (-0.06, 0.46 + 0.03 * abs(_wave(p)))
    top = shoulder(hip, 0.3)
    hands = ((top[0] - c, top[1] - 0.16), (top[0] + c, top[1] - 0.16))
    return Shot(Pose(hip, 0.3, hands, _steps(p, -0.08, 0.34, 0.26)))


def walk(p: float, name: str) -> Shot:
    c = 0.12 * math.cos(TAU * p)
    return Shot(Pose((0, 0.45), 0.04, ((-c, 0.45), (c, 0.45)), _steps(p, 0.0)))


def handstand(p: float, name: str) -> Shot:
    sway = 0.1 * _wave(p)
    hip = (sway / 2, 0.66)
    feet = ((sway - 0.08, 1.14), (sway + 0.12 + 0.1 * _wave(p + 0.2), 1.12))
    return Shot(Pose(hip, math.pi + sway / 2, ((-0.08, 0), (0.1, 0)), feet))


def cartwheel(p: float, name: str) -> Shot:
    lean = -0.6 + TAU * p
    centre = (_mix(-0.15, 0.15, p), 0.52 + 0.06 * math.cos(2 * lean))
    up, side = (math.sin(lean), math.cos(lean)), (math.cos(lean), -math.sin(lean))

    def at(along: float, across: float) -> Point:
        return centre[0] + along * up[0] + across * side[0], centre[1] + along * up[1] + across * side[1]

    feet = (at(-0.42, -0.26), at(-0.42, 0.26))
    pose = Pose(at(-0.06, 0), lean, (at(0.5, -0.24), at(0.5, 0.24)), feet)
    return Shot(pose)


def bow(p: float, name: str) -> Shot:
    lean = _mix(0.35, 1.45, min(1.0, 1.3 * _there_and_back(p)))
    hip = (-0.12, 0.46)
    top = shoulder(hip, lean)
    hands = ((top[0] - 0.2, top[1] - 0.2), (-0.05, 0.52))
    return Shot(Pose(hip, lean, hands, ((-0.14, 0), (-0.06, 0)), nod=0.3))


def push_up(p: float, name: str) -> Shot:
    up = _there_and_back(p)
    hip = (-0.06, _mix(0.12, 0.25, up))
    pose = Pose(hip, _mix(1.5, 1.25, up), ((0.26, 0), (0.28, 0)), ((-0.5, 0.02), (-0.5, 0.02)), nod=-0.3)
    return Shot(pose)


def star_jump(p: float, name: str) -> Shot:
    u = _there_and_back(p)
    hip = (0, 0.45 + 0.05 * u)
    hands = ((-_mix(0.14, 0.3, u), _mix(0.5, 1.06, u)), (_mix(0.14, 0.3, u), _mix(0.5, 1.06, u)))
    feet = ((-_mix(0.06, 0.26, u), 0.04 * u), (_mix(0.06, 0.26, u), 0.04 * u))
    return Shot(Pose(hip, 0.0, hands, feet, elbows=(-1, 1), knees=(-1, 1)))


def dance(p: float, name: str) -> Shot:
    s, c = _wave(p), math.cos(TAU * p)
    hip = (0.08 * s, 0.44)
    hands = ((-0.3, 0.8 + 0.3 * s), (0.3, 0.8 - 0.3 * s))
    notes: list[Stroke] = [
        Disc("ink", (0.5, 0.9 + 0.05 * c), 0.04),
        Line("ink", 0.02, [(0.535, 0.9 + 0.05 * c), (0.535, 1.1)]),
    ]
    feet = ((-0.14, 0.08 * max(0.0, s)), (0.14, 0.08 * max(0.0, -s)))
    return Shot(Pose(hip, -0.2 * s, hands, feet, elbows=(-1, 1), knees=(-1, 1)), behind=notes)


def stand(p: float, name: str) -> Shot:
    return Shot(
        Pose((0, 0.46), 0.0, ((-0.14, 0.43), (0.14, 0.43)), ((-0.08, 0), (0.08, 0)), nod=0.08 * _wave(p))
    )


def lie(p: float, name: str) -> Shot:
    breath = 0.015 * _wave(p)
    return Shot(
        Pose(
            (-0.02, 0.07), 1.5, ((0.3, 0.25 + breath), (0.12, 0.18 + breath)), ((-0.46, 0.03), (-0.45, 0.05))
        )
    )


def ring_prop() -> list[Stroke]:
    """A hoop alone, for pictures of objects."""
    return [Ring("main", 0.05, (0, 0), 0.3)]


ACTIONS: dict[str, Action] = {
    "kicking": kick,
    "lifting": lift,
    "carrying": carry,
    "pushing": push,
    "pulling": pull,
    "throwing": throw,
    "jumping over": jump_over,
    "sitting on": sit_on,
    "balancing": balance,
    "rolling": roll,
    "juggling": juggle,
    "standing by": stand_by,
    "waving": wave,
    "holding": hold,
    "swinging": swing,
    "playing": play,
    "sweeping": sweep,
    "digging": dig,
    "shooting": shoot,
    "watering": water,
    "sawing": saw,
    "blowing": blow,
    "stirring": stir,
    "fishing": fish,
    "reading": read,
    "painting": paint_wall,
    "riding": ride,
    "standing on": skate,
    "driving": drive,
    "rowing": row,
    "climbing": climb,
    "walking": walk_animal,
    "flying": fly,
    "punching": punch,
    "hanging from": hang,
    "crawling under": crawl,
    "bouncing on": bounce,
    "skipping": skip,
    "spinning": spin_hoop,
    "running": run,
    "strolling": walk,
    "doing a handstand": handstand,
    "turning": cartwheel,
    "taking": bow,
    "doing push-ups": push_up,
    "doing star jumps": star_jump,
    "dancing": dance,
    "standing still": stand,
    "lying down": lie,
}
