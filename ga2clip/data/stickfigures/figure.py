"""The articulated figure: strokes in world units for a pose (where hip, hands and feet are).

Elbows and knees follow by two-bone inverse kinematics (law of cosines), so a pose only says what matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ga2clip.data.stickfigures.strokes import Disc, Line, Point, Stroke

TORSO = 0.32
ARM = 0.34
LEG = 0.46


@dataclass(frozen=True, slots=True)
class Pose:
    """A figure that looks to the right; index 0 is the far limb, 1 the near one.

    Attributes:
        hip: position of the hip.
        lean: angle of the torso from upright, radians, positive to the right.
        hands, feet: where they reach for; out of reach means a straight limb in that direction.
        elbows, knees: side to which the joint bends, +1 or -1.
        nod: extra angle of the head.
    """

    hip: Point
    lean: float
    hands: tuple[Point, Point]
    feet: tuple[Point, Point]
    elbows: tuple[float, float] = (1.0, 1.0)
    knees: tuple[float, float] = (1.0, 1.0)
    nod: float = 0.0


@dataclass(frozen=True, slots=True)
class Body:
    """Proportions of an actor, as factors of the standard figure, and widths in world units."""

    head: float = 0.1
    torso: float = 1.0
    arm: float = 1.0
    leg: float = 1.0
    limb_width: float = 0.045
    torso_width: float = 0.045


def shoulder(hip: Point, lean: float) -> Point:
    """Where the standard figure's shoulder is."""
    return hip[0] + TORSO * math.sin(lean), hip[1] + TORSO * math.cos(lean)


def bend(root: Point, target: Point, bone: float, side: float) -> tuple[Point, Point]:
    """The joint and the end of a limb of two equal bones that reaches from `root` for `target`."""
    dx, dy = target[0] - root[0], target[1] - root[1]
    distance = math.hypot(dx, dy) or 1e-6
    reach = min(distance, 2 * bone)
    ux, uy = dx / distance, dy / distance
    height = side * math.sqrt(max(0.0, bone * bone - reach * reach / 4))
    joint = (root[0] + ux * reach / 2 - uy * height, root[1] + uy * reach / 2 + ux * height)
    return joint, (root[0] + ux * reach, root[1] + uy * reach)


def figure_strokes(pose: Pose, body: Body) -> tuple[list[Stroke], list[Stroke]]:
    """The strokes of a figure, split where a held object belongs: (behind the object, in front of it).

    Tints: "far" (limbs of the far side), "limb" (near leg), "sleeve" (near arm), "shirt" (torso), "skin" (head).
    """
    hip, lean = pose.hip, pose.lean
    up = (math.sin(lean), math.cos(lean))
    length = TORSO * body.torso
    top = (hip[0] + up[0] * length, hip[1] + up[1] * length)
    nod = lean + pose.nod
    neck = 0.03 + body.head
    head = (top[0] + math.sin(nod) * neck, top[1] + math.cos(nod) * neck)

    def limb(root: Point, target: Point, bone: float, side: float, tint: str, width: float) -> Line:
        joint, end = bend(root, target, bone, side)
        return Line(tint, width, [root, joint, end])

    arm, leg, width = ARM / 2 * body.arm, LEG / 2 * body.leg, body.limb_width
    behind: list[Stroke] = [
        limb(top, pose.hands[0], arm, -pose.elbows[0], "far_limb", width),
        limb(hip, pose.feet[0], leg, pose.knees[0], "far_limb", width),
        limb(hip, pose.feet[1], leg, pose.knees[1], "limb", width),
        Line("shirt", body.torso_width, [hip, top]),
        Line("skin", width * 0.8, [top, head]),
        Disc("skin", head, body.head),
    ]
    front: list[Stroke] = [limb(top, pose.hands[1], arm, -pose.elbows[1], "sleeve", width)]
    return behind, front
