"""Draws which frames carried an answer: a strip of frames for each video, with a bar below each frame (PNG)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ga2clip.predictions import Explanation, Prediction
from ga2clip.text import printable
from ga2clip.video.draw import write_picture

_SIDE, _GAP, _BAR, _TEXT, _MARGIN = 112, 6, 46, 14, 12
_IN_A_ROW = 10
_HEAD = 26
_COLOUR, _GREY = (38, 110, 184), (236, 236, 236)


def draw_explanations(answers: Sequence[Prediction], out: Path) -> Path:
    """Draw one strip per video, in the order of the answers, with the best label above it.

    The height of a bar is the frame's weight in that label, against the largest of the video; below it stands the
    weight in percent. Where weights are an approximation the heading says so.

    Args:
        answers: one or more, with explanations that have their frames.
        out: the PNG file.

    Returns:
        `out`.

    Raises:
        UserError: the file can't be written.
    """
    strips = [_strip(answer) for answer in answers]
    whole = np.full((sum(map(len, strips)), max(s.shape[1] for s in strips), 3), 255, np.uint8)
    top = 0
    for strip in strips:
        whole[top : top + len(strip), : strip.shape[1]] = strip
        top += len(strip)
    write_picture(out, whole)
    return out


def _strip(answer: Prediction) -> np.ndarray:
    found = answer.explanation
    assert found is not None
    assert found.frames is not None
    font = ImageFont.load_default(_TEXT)
    label, probability = answer.predictions[0]
    how = "" if found.rule == "exact" else "    (weights: an approximation)"
    title = printable(f"{label}  {100 * probability:.0f} %    {answer.file}{how}")
    count = len(found.times)
    row = _SIDE + _BAR + 2 * _GAP + _TEXT
    columns = min(count, _IN_A_ROW)
    width = max(2 * _MARGIN + columns * (_SIDE + _GAP), 2 * _MARGIN + int(font.getlength(title)))
    picture = Image.new("RGB", (width, _HEAD + -(-count // columns) * row + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _HEAD // 2), title, fill="black", font=font, anchor="lm")
    for number in range(count):
        left = _MARGIN + number % columns * (_SIDE + _GAP)
        _draw_frame(picture, draw, found, number, left, _HEAD + number // columns * row, font)
    return np.asarray(picture)


def _draw_frame(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    found: Explanation,
    number: int,
    left: int,
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    weights = found.classes[0].weights
    assert found.frames is not None
    frame = Image.fromarray(found.frames[number]).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    picture.paste(frame, (left, top))
    below = top + _SIDE + _GAP
    high = round(_BAR * weights[number] / max(max(weights), 1e-9))
    draw.rectangle((left, below, left + _SIDE, below + _BAR), fill=_GREY)
    if high:
        draw.rectangle((left, below + _BAR - high, left + _SIDE, below + _BAR), fill=_COLOUR)
    said = f"{100 * weights[number]:.0f} %"
    draw.text((left + _SIDE, below + _BAR + 2), said, fill="black", font=font, anchor="ra")
    draw.text((left, below + _BAR + 2), f"{found.times[number]:.2f} s", fill=(120, 120, 120), font=font)
