"""Actions on, in or at something that stands (bike, ladder …), each a function of phase and object.

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
    steps,
    wave,
)
from ga2clip.data.stickfigures.objects import FIXED, oval
from ga2clip.data.stickfigures.strokes import Disc, Frame, Line, Stroke, place


def _ride(p: float, name: str) -> Shot:
    bob = 0.02 * wave(2 * p)
    c, s = 0.1 * math.cos(TAU * p), 0.1 * math.sin(TAU * p)
    if name == "bike":
        pose = Pose((-0.13, 0.52), 0.45, ((0.24, 0.62), (0.28, 0.6)), ((c, 0.2 + s), (-c, 0.2 - s)))
        return Shot(pose, behind=fixed("bike", 0))
    if name == "scooter":
        pose = Pose(
            (-0.1, 0.56), 0.2, ((0.14, 0.64), (0.18, 0.62)), ((-0.05, 0.13), (-0.28 + 1.5 * c, 0.06 + abs(s)))
        )
        return Shot(pose, behind=fixed("scooter", 0))
    if name == "sled":
        pose = Pose((-0.14, 0.2 + bob), -0.25, ((0.2, 0.38), (0.24, 0.36)), ((0.22, 0.2), (0.26, 0.2)))
        rope = cord([(0.24, 0.37), (0.4, 0.16)])
        return Shot(pose, behind=loose("sled", 0.02, 0.13 + bob, 0.08 * wave(p), 1.5), front=rope)
    legs = [
        Line("main", 0.075, [(x, 0.36 + bob), (x + 0.08 * wave(p + k / 4), 0.0)])
        for k, x in enumerate((-0.28, -0.2, 0.18, 0.26))
    ]
    scale = 0.95
    pose = Pose(
        (-0.04, 0.56 + bob), 0.1, ((0.24, 0.68), (0.26, 0.66)), ((0.08, 0.26 + bob), (0.1, 0.24 + bob))
    )
    return Shot(pose, behind=[*legs, *fixed(name, 0, bob, 0.0, scale)])


def _skate(p: float, _name: str) -> Shot:
    sway = 0.12 * wave(p)
    pose = Pose(
        (-0.02, 0.46),
        sway,
        ((-0.36, 0.86 + sway), (0.34, 0.8 - sway)),
        ((-0.2, 0.15), (0.2, 0.15)),
        knees=(-1, 1),
    )
    return Shot(pose, behind=fixed("skateboard", 0, 0, 0.1 * wave(p + 0.2)))


def _drive(p: float, _name: str) -> Shot:
    bob = 0.015 * wave(2 * p)
    pose = Pose((-0.12, 0.34 + bob), -0.12, ((0.12, 0.56), (0.1, 0.54 + 2 * bob)), ((0.1, 0.3), (0.12, 0.3)))
    wheel: list[Stroke] = [Line("ink", 0.03, [(0.06, 0.5), (0.14, 0.62)])]
    return Shot(pose, front=[*wheel, *fixed("car", 0, bob)])


def _row(p: float, name: str) -> Shot:
    c, s = math.cos(TAU * p), math.sin(TAU * p)
    grip = (0.14 + 0.1 * c, 0.5 + 0.05 * s)
    blade = -0.75 * c
    pose = Pose((-0.12, 0.22), 0.3 * c, ((grip[0] + 0.03, grip[1]), grip), ((0.2, 0.16), (0.24, 0.16)))
    waves = Line("drops", 0.04, [(-0.72 + 0.12 * k, 0.03 * (-1) ** k) for k in range(13)])
    oar = held("oar", grip, blade, 1.05)
    return Shot(pose, front=[*fixed(name, 0, 0.02 * s), *oar, waves])


def _climb(p: float, name: str) -> Shot:
    step = 0.12 * wave(p)
    y = 0.52 + 0.06 * wave(2 * p)
    x = 0.16
    lean = 0.12
    narrow = 0.0 if name in ("rope", "pole") else 0.09
    hands = ((x - narrow, y + 0.62 + step), (x + narrow, y + 0.62 - step))
    feet = ((x - narrow, y - 0.3 - step), (x + narrow, y - 0.3 + step))
    pose = Pose((x - 0.17 + narrow, y), lean, hands, feet)
    if name == "fence":
        return Shot(pose, behind=fixed("fence", x, 0, 0, 2.1))
    return Shot(pose, behind=fixed(name, x))


def _walk_animal(p: float, name: str) -> Shot:
    hand = (0.06, 0.5)
    pose = Pose((-0.18, 0.45), 0.08, ((-0.3, 0.46), hand), steps(p, -0.18))
    trot = Frame(0.38, 0.02 * abs(wave(2 * p)), 0.06 * wave(2 * p), 1.15)
    neck = trot.map([(0.14, 0.26)])[0]
    return Shot(pose, behind=place(FIXED[name].strokes, trot), front=cord([hand, (0.24, 0.36), neck]))


def _fly(p: float, _name: str) -> Shot:
    sway = 0.06 * wave(p)
    spot = (0.42 + sway, 1.12 + 0.05 * wave(p + 0.3))
    hand = (-0.04, 0.86 + 0.04 * wave(p))
    pose = Pose((-0.28, 0.46), -0.15, ((-0.1, 0.76), hand), steps(p / 2, -0.28, 0.12), nod=-0.2)
    string = cord([hand, (0.2, 0.9), spot], 0.014)
    return Shot(pose, front=[*string, *fixed("kite", *spot, angle=-0.4 + 4 * sway, scale=1.15)])


def _punch(p: float, _name: str) -> Shot:
    jab, cross = max(0.0, wave(p)), max(0.0, -wave(p))
    tilt = 0.16 * max(jab, cross)
    hip = (-0.22, 0.44)
    top = shoulder(hip, 0.18)
    hands = ((top[0] + 0.14 + 0.2 * jab, top[1] + 0.02), (top[0] + 0.14 + 0.2 * cross, top[1] - 0.02))
    gloves: list[Stroke] = [Disc("ink", hand, 0.055) for hand in hands]
    pose = Pose(hip, 0.18, hands, ((-0.4, 0), (-0.06, 0)), elbows=(1, 1))
    return Shot(pose, behind=fixed("bag", 0.36, 1.42, tilt), front=gloves)


def _hang(p: float, _name: str) -> Shot:
    sway = 0.16 * wave(p)
    hip = (0.3 * sway, 0.62)
    feet = ((hip[0] - 0.04 + sway, 0.2), (hip[0] + 0.06 + sway, 0.2))
    pose = Pose(hip, -0.3 * sway, ((-0.15, 1.26), (0.15, 1.26)), feet)
    return Shot(pose, behind=fixed("bar", 0))


def _crawl(p: float, _name: str) -> Shot:
    c = 0.08 * math.cos(TAU * p)
    pose = Pose(
        (-0.18, 0.27), 1.38, ((0.16 + c, 0), (0.2 - c, 0)), ((-0.4 - c, 0.02), (-0.4 + c, 0.02)), nod=-0.7
    )
    return Shot(pose, behind=fixed("table", 0.02, 0, 0, 1.15))


def _bounce(p: float, _name: str) -> Shot:
    air = 4 * p * (1 - p)
    hip = (0.0, 0.62 + 0.2 * air)
    top = shoulder(hip, 0.0)
    spread = 0.16 * air
    hands = ((-0.3, top[1] + 0.2 * air), (0.3, top[1] + 0.2 * air))
    feet = ((-0.08 - spread, hip[1] - 0.42), (0.08 + spread, hip[1] - 0.42))
    pose = Pose(hip, 0.0, hands, feet, elbows=(-1, 1), knees=(-1, 1))
    return Shot(pose, behind=fixed("trampoline", 0))


def _skip(p: float, _name: str) -> Shot:
    a = TAU * p
    hop = 0.07 * max(0.0, -math.cos(a))
    hip = (0.0, 0.46 + hop)
    hands = ((-0.27, 0.55 + hop), (0.27, 0.55 + hop))
    height = 0.62 * math.cos(a)
    loop = [(x * 0.5, hands[0][1] + height * (1 - abs(x) ** 2.5)) for x in (i / 8 for i in range(-8, 9))]
    rope = cord([hands[0], *loop, hands[1]], 0.028)
    pose = Pose(hip, 0.0, hands, ((-0.06, hop), (0.06, hop)), elbows=(-1, 1))
    return Shot(pose, behind=rope if math.sin(a) > 0 else [], front=rope if math.sin(a) <= 0 else [])


def _spin_hoop(p: float, _name: str) -> Shot:
    a = TAU * p
    sway = 0.06 * math.cos(a)
    hip = (sway, 0.46)
    pose = Pose(hip, -sway, ((-0.3, 0.95), (0.3, 0.95)), ((-0.12, 0), (0.12, 0)), elbows=(-1, 1))
    ring = Frame(-sway, 0.52, 0.2 * math.sin(a))
    back = place([Line("main", 0.05, oval(0, 0, 0.36, 0.11, 0, math.pi))], ring)
    front = place([Line("main", 0.05, oval(0, 0, 0.36, 0.11, math.pi, TAU))], ring)
    return Shot(pose, behind=back, front=front)


ACTIONS: dict[str, Action] = {
    "riding": _ride,
    "standing on": _skate,
    "driving": _drive,
    "rowing": _row,
    "climbing": _climb,
    "walking": _walk_animal,
    "flying": _fly,
    "punching": _punch,
    "hanging from": _hang,
    "crawling under": _crawl,
    "bouncing on": _bounce,
    "skipping": _skip,
    "spinning": _spin_hoop,
}
