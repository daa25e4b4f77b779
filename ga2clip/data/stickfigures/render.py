"""Rendering clips in the dataset's drawing style: uint8 (T, H, W, 3) RGB frames for a class name and a seed.

The style is a thin stick figure in one ink on a plain pale or dark ground, objects drawn as outlines or pale fills.
What the seed decides: the actor (proportions, line width), colours, the place and its clutter, camera (pan, zoom,
shake), speed and phase, mirror, brightness and noise.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ga2clip.data.stickfigures.classes import ACTION_CLASSES
from ga2clip.data.stickfigures.empty import EMPTY_KINDS, empty_strokes
from ga2clip.data.stickfigures.figure import Body
from ga2clip.data.stickfigures.motion import shot_strokes
from ga2clip.data.stickfigures.objects import LOOSE
from ga2clip.data.stickfigures.places import PLACES
from ga2clip.data.stickfigures.strokes import (
    SUPERSAMPLING,
    Colour,
    Frame,
    Image,
    Line,
    Point,
    Stroke,
    Style,
    paint,
    place,
    shrink,
    view,
)
from ga2clip.data.stickfigures.verbs import ACTIONS
from ga2clip.errors import unknown_name

FPS = 12
FRAMES = 24
SIZE = (128, 96)
"""Width and height."""


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue, saturation and value in [0, 1]; hue wraps."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value)))
    return round(255 * r), round(255 * g), round(255 * b)


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b in a."""
    r, g, bl = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, bl


@dataclass(frozen=True)
class Camera:
    """A camera path: where it looks and how wide, as a function of time in [0, 1]."""

    pan: Point
    drift: Point
    width: float
    zoom: float
    shake: float

    def at(self, t: float, rng: np.random.Generator) -> tuple[Point, float]:
        """Position and width at time t; `rng` shakes it."""
        sx, sy = (float(v) for v in rng.normal(0.0, self.shake, 2))
        x = self.pan[0] + self.drift[0] * (t - 0.5) + sx
        y = self.pan[1] + self.drift[1] * (t - 0.5) + sy
        return (x, y), self.width * (1 + self.zoom * (t - 0.5))


def random_camera(rng: np.random.Generator) -> Camera:
    """A camera that keeps the figure inside the central square."""
    u = rng.uniform(-1, 1, 6)
    return Camera(
        pan=(0.07 * u[0], 0.04 * u[1]),
        drift=(0.12 * u[2], 0.05 * u[3]),
        width=1.6 + 0.1 * u[4],
        zoom=0.1 * u[5],
        shake=float(rng.choice([0.0, 0.0, 0.006])),
    )


def ink_style(rng: np.random.Generator, line: float) -> Style:
    """A palette of one ink on one paper: light or dark, with pale fills or hollow shapes."""
    paper_hue, thing_hue = rng.random(2)
    dark = rng.random() < 0.12
    paper = hsv(
        paper_hue, rng.uniform(0.02, 0.25), rng.uniform(0.12, 0.3) if dark else rng.uniform(0.82, 1.0)
    )
    ink = hsv(rng.random(), rng.uniform(0.0, 0.5), rng.uniform(0.85, 1.0) if dark else rng.uniform(0.02, 0.3))
    main = hsv(thing_hue, rng.uniform(0.35, 0.9), rng.uniform(0.5, 0.9))
    second = hsv(thing_hue + rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.95))
    ground = blend(paper, hsv(rng.random(), 0.4, 0.6), rng.uniform(0.05, 0.3))
    palette = {
        "ink": ink,
        "sky": paper,
        "ground": ground,
        "far": blend(paper, ink, rng.uniform(0.08, 0.25)),
        "near": blend(paper, ink, rng.uniform(0.15, 0.4)),
        "main": main,
        "second": second,
        "drops": blend(hsv(0.58, 0.7, 0.9), ink, 0.3),
        **dict.fromkeys(("limb", "sleeve", "shirt", "skin", "far_limb"), ink),
    }
    hollow = {"skin"} if rng.random() < 0.5 else set[str]()
    if rng.random() < 0.5:
        hollow |= {"main"}
    return Style(palette, outline=line * 0.6, hollow=frozenset(hollow))


def stick_body(rng: np.random.Generator) -> Body:
    """An actor: proportions and one line width for everything."""
    line = float(rng.uniform(0.03, 0.055))
    head, torso, arm, leg = rng.uniform((0.08, 0.9, 0.95, 0.95), (0.12, 1.1, 1.12, 1.08))
    return Body(head, torso, arm, leg, limb_width=line, torso_width=line * float(rng.uniform(1.0, 1.5)))


def clutter(rng: np.random.Generator, count: int) -> list[Stroke]:
    """Objects that have nothing to do with the action, small and at the sides, and a few scratches."""
    strokes: list[Stroke] = []
    for _ in range(count):
        name = str(rng.choice(sorted(LOOSE)))
        x = float(rng.choice([-1, 1])) * float(rng.uniform(0.62, 0.95))
        small = place(LOOSE[name].strokes, Frame(x, float(rng.uniform(0.0, 0.25)), 0.0, 0.5))
        strokes += small
    for x, y in rng.uniform((-0.9, 0.2), (0.9, 1.4), (int(rng.integers(0, 5)), 2)):
        strokes.append(Line("near", 0.012, [(float(x), float(y)), (float(x) + 0.08, float(y) + 0.03)]))
    return strokes


@dataclass(frozen=True)
class Film:
    """What a clip's pictures go through.

    Attributes:
        contrast: factor round mid grey.
        brightness: grey levels added.
        grain: uint8 (2H, 2W, 3), 128 is none; frames get random cuts of it.
    """

    contrast: float
    brightness: float
    grain: Image

    def expose(self, picture: Image, rng: np.random.Generator) -> Image:
        """One frame, uint8 (H, W, 3), with contrast, brightness and grain."""
        height, width = picture.shape[:2]
        y, x = (int(rng.integers(0, n)) for n in (height, width))
        cut = self.grain[y : y + height, x : x + width]
        offset = self.brightness - 128.0 * self.contrast
        return np.asarray(cv2.addWeighted(picture, self.contrast, cut, 1.0, offset), dtype=np.uint8)


def random_film(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Film:
    """A film for pictures of `size` (width, height)."""
    sigma = float(rng.uniform(0.0, 9.0))
    shape = (size[1] * 2, size[0] * 2, 1)
    grain = (rng.standard_normal(shape, dtype=np.float32) * sigma + 128).round().astype(np.uint8)
    return Film(float(rng.uniform(0.85, 1.1)), float(rng.uniform(-18, 18)), np.repeat(grain, 3, axis=2))


def _shoot(
    rng: np.random.Generator,
    style: Style,
    still: list[Stroke],
    moving: Callable[[int], list[Stroke]],
    frames: int,
) -> Image:
    """Film a scene: `still` is the backdrop, `moving(i)` the strokes of frame i."""
    camera, film = random_camera(rng), random_film(rng)
    plain = replace(style, outline=0.0)
    clip = np.empty((frames, SIZE[1], SIZE[0], 3), np.uint8)
    sky = np.full((SIZE[1] * SUPERSAMPLING, SIZE[0] * SUPERSAMPLING, 3), style.palette["sky"], np.uint8)
    canvas = np.empty_like(sky)
    for index in range(frames):
        pan, width = camera.at(index / max(1, frames - 1), rng)
        scale, origin = view(canvas, width=width, pan=pan)
        np.copyto(canvas, sky)
        paint(canvas, still, plain, scale, origin)
        paint(canvas, moving(index), style, scale, origin)
        clip[index] = film.expose(shrink(canvas), rng)
    return clip


def render_clip(class_name: str, seed: int, *, frames: int = FRAMES) -> Image:
    """Render one clip of an action.

    Args:
        class_name: a key of `classes.ACTION_CLASSES`.
        seed: the actor and everything else that varies.
        frames: how many, at 12 a second.

    Returns:
        uint8 (frames, 96, 128, 3), RGB; the same on every run.

    Raises:
        UserError: there is no such class.
    """
    if class_name not in ACTION_CLASSES:
        raise unknown_name("built-in class", class_name, list(ACTION_CLASSES))
    action = ACTION_CLASSES[class_name]
    rng = np.random.default_rng([seed, *class_name.encode()])
    body = stick_body(rng)
    style = ink_style(rng, body.limb_width)
    scene = PLACES[str(rng.choice(action.places))](rng) + clutter(rng, int(rng.integers(0, 3)))
    stage = Frame(scale=float(rng.uniform(0.92, 1.05)), mirror=bool(rng.random() < 0.5))
    start, cycles = float(rng.random()), float(rng.uniform(*action.cycles))

    def moving(index: int) -> list[Stroke]:
        phase = (start + cycles * index / FRAMES) % 1.0
        return place(shot_strokes(ACTIONS[action.verb](phase, action.thing), body), stage)

    return _shoot(rng, style, scene, moving, frames)


def render_empty(kind: str, seed: int, *, frames: int = FRAMES) -> Image:
    """Render one irrelevant clip, which shows no figure.

    Args:
        kind: one of `empty.EMPTY_KINDS`.
        seed: everything that varies.
        frames: how many, at 12 a second.

    Returns:
        uint8 (frames, 96, 128, 3), RGB; the same on every run.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in EMPTY_KINDS:
        raise unknown_name("kind of irrelevant clip", kind, list(EMPTY_KINDS))
    rng = np.random.default_rng([seed, *kind.encode()])
    style = ink_style(rng, float(rng.uniform(0.03, 0.055)))
    if kind != "shapes":  # backdrops have no outlines in clips with a figure either
        style = replace(style, outline=0.0)

    def moving(index: int) -> list[Stroke]:
        scene = np.random.default_rng([seed, 1, *kind.encode()])
        return empty_strokes(scene, kind, index / FRAMES)[0]

    return _shoot(rng, style, clutter(rng, int(rng.integers(0, 3))), moving, frames)
