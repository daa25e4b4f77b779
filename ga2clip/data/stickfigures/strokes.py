"""Painting strokes, given in world units, antialiased on a uint8 (H, W, 3) canvas.

Everything that the dataset shows (figures, objects, places) is a list of the four strokes below. A stroke names
its colour by a *tint* ("limb", "main", "ground" ...), and a `Style` says what colour a tint is and how thick an
outline gets; so the same drawing can be made as a thin stick figure or as a filled silhouette.

World units: the height of a standing figure is 1, x points right, y points up, the ground is y = 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
Colour = tuple[int, int, int]
Image = npt.NDArray[np.uint8]

SUPERSAMPLING = 2
"""A canvas is this many times larger than the picture: OpenCV's line widths are whole pixels."""

_SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A similarity transform: turn by `angle` (radians, counter-clockwise), mirror, scale, then move to (x, y)."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    scale: float = 1.0
    mirror: bool = False

    def map(self, points: Iterable[Point]) -> list[Point]:
        """Points (local units) to points of the surrounding frame."""
        c, s = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        sign = -1.0 if self.mirror else 1.0
        return [(self.x + sign * (c * px - s * py), self.y + s * px + c * py) for px, py in points]


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled polygon."""

    tint: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Line:
    """An open polyline with round ends; `width` in world units."""

    tint: str
    width: float
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Disc:
    """A filled circle."""

    tint: str
    centre: Point
    radius: float


@dataclass(frozen=True, slots=True)
class Ring:
    """A circle without filling."""

    tint: str
    width: float
    centre: Point
    radius: float


Stroke = Shape | Line | Disc | Ring


@dataclass(frozen=True, slots=True)
class Style:
    """How strokes become paint.

    Attributes:
        palette: RGB colour of every tint; "ink" is the colour of outlines.
        outline: width of the outline round shapes and discs in world units; 0 draws none.
        hollow: tints whose shapes and discs are outlined only.
    """

    palette: Mapping[str, Colour]
    outline: float = 0.0
    hollow: frozenset[str] = field(default_factory=frozenset)


def place(strokes: Iterable[Stroke], frame: Frame) -> list[Stroke]:
    """Strokes in local units to strokes of the surrounding frame."""
    placed: list[Stroke] = []
    for stroke in strokes:
        match stroke:
            case Shape(tint, points):
                placed.append(Shape(tint, frame.map(points)))
            case Line(tint, width, points):
                placed.append(Line(tint, width * frame.scale, frame.map(points)))
            case Disc(tint, centre, radius):
                placed.append(Disc(tint, frame.map([centre])[0], radius * frame.scale))
            case Ring(tint, width, centre, radius):
                placed.append(Ring(tint, width * frame.scale, frame.map([centre])[0], radius * frame.scale))
    return placed


def view(
    canvas: Image, *, width: float = 1.5, bottom: float = -0.12, pan: Point = (0.0, 0.0)
) -> tuple[float, Point]:
    """The pixel scale and origin that show `width` world units over the canvas' short side.

    Args:
        canvas: uint8 (H, W, 3).
        width: world units that the central square covers.
        bottom: world y of the picture's lower edge.
        pan: camera position in world units.

    Returns:
        pixels per world unit, and the pixel (x, y) of the world's origin.
    """
    height, columns = canvas.shape[:2]
    scale = min(height, columns) / width
    return scale, (columns / 2 - pan[0] * scale, height + (bottom - pan[1]) * scale)


def paint(canvas: Image, strokes: Iterable[Stroke], style: Style, scale: float, origin: Point) -> None:
    """Paint strokes on a canvas, in place.

    Args:
        canvas: uint8 (H, W, 3) RGB.
        strokes: in world units, the farthest first.
        style: colours and outlines.
        scale: pixels per world unit.
        origin: pixel (x, y) of the world's origin.
    """
    one = 1 << _SHIFT
    factor = np.array((scale * one, -scale * one))
    offset = np.array((origin[0] * one, origin[1] * one))

    def pixels(points: Sequence[Point]) -> npt.NDArray[np.int32]:
        return np.rint(np.array(points) * factor + offset).astype(np.int32)

    def thickness(width: float) -> int:
        return max(1, round(width * scale))

    ink = style.palette["ink"]
    for stroke in strokes:
        colour = style.palette[stroke.tint]
        filled = stroke.tint not in style.hollow
        match stroke:
            case Line(_, width, points):
                cv2.polylines(canvas, [pixels(points)], False, colour, thickness(width), cv2.LINE_AA, _SHIFT)
            case Shape(_, points):
                corners = pixels(points)
                if filled:
                    cv2.fillPoly(canvas, [corners], colour, cv2.LINE_AA, _SHIFT)
                if style.outline or not filled:
                    edge = ink if filled else colour
                    cv2.polylines(
                        canvas, [corners], True, edge, thickness(style.outline), cv2.LINE_AA, _SHIFT
                    )
            case Disc(_, centre, radius):
                x, y = (int(v) for v in pixels([centre])[0])
                r = round(radius * scale * one)
                if filled:
                    cv2.circle(canvas, (x, y), r, colour, -1, cv2.LINE_AA, _SHIFT)
                if style.outline or not filled:
                    edge = ink if filled else colour
                    cv2.circle(canvas, (x, y), r, edge, thickness(style.outline), cv2.LINE_AA, _SHIFT)
            case Ring(_, width, centre, radius):
                x, y = (int(v) for v in pixels([centre])[0])
                r = round(radius * scale * one)
                cv2.circle(canvas, (x, y), r, colour, thickness(width), cv2.LINE_AA, _SHIFT)


def shrink(canvas: Image) -> Image:
    """A supersampled canvas, uint8 (2H, 2W, 3), to the picture, uint8 (H, W, 3)."""
    height, width = canvas.shape[:2]
    size = (width // SUPERSAMPLING, height // SUPERSAMPLING)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
