"""The two drawing styles: palettes and bodies, from a random generator.

The *ink* look is the dataset's: a thin stick figure in one ink on a plain ground, objects as outlines or pale fills.
The *paint* look is that of the pictures that `tiny` was pre-trained on: filled figures with thick limbs and clothes,
strong colours, no outlines.
"""

from __future__ import annotations

import colorsys

import numpy as np

from ga2clip.data.stickfigures.figure import Body
from ga2clip.data.stickfigures.strokes import Colour, Style


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue, saturation and value in [0, 1]; hue wraps."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value)))
    return round(255 * r), round(255 * g), round(255 * b)


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b in a."""
    r, g, bl = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, bl


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


def paint_style(rng: np.random.Generator) -> Style:
    """A palette of strong colours, skin and clothes; nothing is outlined."""
    hues = rng.random(8)
    sky = hsv(hues[0], rng.uniform(0.02, 0.3), rng.uniform(0.85, 1.0))

    def cloth() -> Colour:
        return hsv(rng.random(), rng.uniform(0.2, 1.0), rng.uniform(0.0, 0.45))

    shirt, trousers, skin = cloth(), cloth(), cloth()
    if rng.random() < 0.5:
        trousers = skin = shirt
    ground = blend(sky, hsv(hues[1], 0.6, 0.6), rng.uniform(0.1, 0.35))
    return Style(
        {
            "ink": hsv(hues[2], rng.uniform(0, 0.5), rng.uniform(0.0, 0.35)),
            "sky": sky,
            "ground": ground,
            "far": blend(sky, hsv(hues[3], 0.5, 0.5), rng.uniform(0.1, 0.3)),
            "near": blend(ground, hsv(hues[4], 0.5, 0.6), rng.uniform(0.15, 0.4)),
            "main": hsv(hues[5], rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.85)),
            "second": hsv(hues[5] + rng.uniform(0.2, 0.8), rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.9)),
            "drops": hsv(0.55 + 0.1 * hues[6], 0.7, 0.9),
            "skin": skin,
            "shirt": shirt,
            "sleeve": blend(shirt, (255, 255, 255), 0.12),
            "limb": trousers,
            "far_limb": blend(trousers, (0, 0, 0), 0.25),
        }
    )


def solid_body(rng: np.random.Generator) -> Body:
    """A figure with thick limbs and a trunk."""
    head, torso, arm, leg = rng.uniform((0.085, 0.92, 0.95, 0.95), (0.115, 1.08, 1.1, 1.05))
    limb = float(rng.uniform(0.06, 0.11))
    return Body(head, torso, arm, leg, limb_width=limb, torso_width=limb * float(rng.uniform(1.2, 2.0)))
