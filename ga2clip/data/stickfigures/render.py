"""Rendering clips: uint8 (T, H, W, 3) RGB frames for a class and a seed.

What the seed decides: the actor (proportions, line width), colours, the place and its clutter, camera (pan, zoom,
shake), speed and phase, mirror, brightness and noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ga2clip.data.stickfigures.classes import ACTION_CLASSES, ActionClass
from ga2clip.data.stickfigures.empty import EMPTY_KINDS, empty_strokes
from ga2clip.data.stickfigures.looks import ink_style, paint_style, solid_body, stick_body
from ga2clip.data.stickfigures.motion import shot_strokes
from ga2clip.data.stickfigures.objects import LOOSE
from ga2clip.data.stickfigures.places import PLACES
from ga2clip.data.stickfigures.strokes import (
    SUPERSAMPLING,
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
class Exposure:
    """Contrast, brightness and grain of a clip's frames.

    Attributes:
        contrast: factor round mid grey.
        brightness: grey levels added.
        grain: uint8 (2H, 2W, 3), 128 is none; frames get random cuts of it.
    """

    contrast: float
    brightness: float
    grain: Image

    def expose(self, frame: Image, rng: np.random.Generator) -> Image:
        """One frame, uint8 (H, W, 3), with contrast, brightness and grain."""
        height, width = frame.shape[:2]
        y, x = (int(rng.integers(0, n)) for n in (height, width))
        cut = self.grain[y : y + height, x : x + width]
        offset = self.brightness - 128.0 * self.contrast
        return np.asarray(cv2.addWeighted(frame, self.contrast, cut, 1.0, offset), dtype=np.uint8)


def random_exposure(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Exposure:
    """A random exposure for frames of `size` (width, height)."""
    sigma = float(rng.uniform(0.0, 9.0))
    shape = (size[1] * 2, size[0] * 2, 1)
    grain = (rng.standard_normal(shape, dtype=np.float32) * sigma + 128).round().astype(np.uint8)
    return Exposure(float(rng.uniform(0.85, 1.1)), float(rng.uniform(-18, 18)), np.repeat(grain, 3, axis=2))


def plain_exposure(rng: np.random.Generator) -> Exposure:
    """An exposure that only adds grain, like the pre-training pictures."""
    return replace(random_exposure(rng), contrast=1.0, brightness=0.0)


def _render_scene(
    rng: np.random.Generator,
    style: Style,
    still: list[Stroke],
    moving: Callable[[int], list[Stroke]],
    frames: int,
    load: Callable[[np.random.Generator], Exposure] = random_exposure,
) -> Image:
    """Render a scene: `still` is the backdrop, `moving(i)` the strokes of frame i, `load` draws the exposure."""
    camera, exposure = random_camera(rng), load(rng)
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
        clip[index] = exposure.expose(shrink(canvas), rng)
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
    return render_action(ACTION_CLASSES[class_name], seed, frames=frames)


def render_action(action: ActionClass, seed: int, *, frames: int = FRAMES) -> Image:
    """Render one clip of a class of any built-in dataset.

    Args:
        action: the class. One that is another's motion backwards gets that one's frames of the same seed in reverse
            order, camera and noise included.
        seed: the actor and everything else that varies.
        frames: how many, at 12 a second; a motion with an end is over in the last one.

    Returns:
        uint8 (frames, 96, 128, 3), RGB; the same on every run.
    """
    rng = np.random.default_rng([seed, *(action.backwards_of or action.name).encode()])
    inked = action.look == "ink"
    body = stick_body(rng) if inked else solid_body(rng)
    style = ink_style(rng, body.limb_width) if inked else paint_style(rng)
    scene = PLACES[str(rng.choice(action.places))](rng)
    scene += clutter(rng, int(rng.integers(0, 3))) if inked else []
    stage = Frame(scale=float(rng.uniform(0.92, 1.05)), mirror=bool(rng.random() < 0.5) and action.mirror)
    phase = _once(rng, frames) if action.once else _round(rng, action)
    verb = str(rng.choice([action.verb, *action.or_verbs])) if action.or_verbs else action.verb

    def moving(index: int) -> list[Stroke]:
        return place(shot_strokes(ACTIONS[verb](phase(index), action.thing), body), stage)

    clip = _render_scene(rng, style, scene, moving, frames, random_exposure if inked else plain_exposure)
    return clip[::-1].copy() if action.backwards_of else clip


def _round(rng: np.random.Generator, action: ActionClass) -> Callable[[int], float]:
    """The phase in [0, 1) of each frame of a motion that repeats."""
    start, cycles = float(rng.random()), float(rng.uniform(*action.cycles))
    return lambda index: (start + cycles * index / FRAMES) % 1.0


def _once(rng: np.random.Generator, frames: int) -> Callable[[int], float]:
    """The progress in [0, 1] of each frame of a motion that begins a little after the clip and ends before it."""
    begin, end = float(rng.uniform(0.0, 0.15)), float(rng.uniform(0.85, 1.0))
    return lambda index: min(1.0, max(0.0, (index / max(1, frames - 1) - begin) / (end - begin)))


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

    return _render_scene(rng, style, clutter(rng, int(rng.integers(0, 3))), moving, frames)
