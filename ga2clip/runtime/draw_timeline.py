"""Drawings of a timeline: a chart (PNG), or the video with the answers written on it (MP4)."""

import colorsys
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ga2clip.runtime.timeline import Answer, Segment, Timeline
from ga2clip.video import iter_frames, probe, write_video
from ga2clip.video.draw import write_picture

_LANES = 12  # labels that get a line of their own, those with the longest segments
_WIDTH, _LANE, _MARGIN, _TEXT, _AXIS = 1200, 30, 12, 15, 34
_LABEL_WIDTH = _WIDTH // 3
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between marks
_MOST_MARKS = 10
_BAR, _BAR_WIDTH = (60, 60, 60), 3  # of the frames' weights

Colour = tuple[int, int, int]


def plot(timeline: Timeline, out: Path) -> Path:
    """Draw the timeline as a PNG: a lane per label with its segments over a time axis. Stronger colour: more probable.
    Where it has explanations, a bar at each frame says how much of the answer it carried; half as high as the lane: as
    much as frames do on average. Where these weights are an approximation, a note below the labels says so.

    Only the `_LANES` labels with the longest total time are drawn; gaps are white. Raises UserError when the file
    can't be written.
    """
    labels = _by_time(timeline)[:_LANES]
    font = _font(_TEXT)
    shown = {label: _shortened(label, font) for label in labels}
    note = _note(timeline)
    left = _MARGIN * 2 + int(max(font.getlength(text) for text in (note, *shown.values())))
    height = _MARGIN * 2 + _LANE * max(len(labels), 1) + _AXIS
    picture = Image.new("RGB", (_WIDTH, height), "white")
    draw = ImageDraw.Draw(picture)
    scale = (_WIDTH - left - 2 * _MARGIN) / max(timeline.duration, 1e-9)
    for row, label in enumerate(labels):
        top = _MARGIN + row * _LANE
        draw.text((left - _MARGIN, top + _LANE // 2), shown[label], fill="black", font=font, anchor="rm")
        draw.rectangle(
            (left, top + 3, left + timeline.duration * scale, top + _LANE - 3), fill=(242, 242, 242)
        )
        for s in timeline.segments:
            if s.label == label:
                box = (left + s.start * scale, top + 3, left + s.end * scale, top + _LANE - 3)
                draw.rectangle(box, fill=_faded(_colour(row), s.score))
                for time, weight in _weights(timeline, s):
                    x, high = left + time * scale, min(weight / 2, 1) * (_LANE - 6)
                    draw.line((x, top + _LANE - 3 - high, x, top + _LANE - 3), fill=_BAR, width=_BAR_WIDTH)
        for gap in timeline.gaps:
            draw.rectangle(
                (left + gap.start * scale, top + 3, left + gap.end * scale, top + _LANE - 3), fill="white"
            )
    axis = height - _AXIS - _MARGIN + 6
    _draw_axis(draw, font, timeline.duration, left, axis, scale)
    draw.text((left - _MARGIN, axis), note, fill=_BAR, font=font, anchor="ra")
    write_picture(out, np.asarray(picture))
    return out


def render(source: str | os.PathLike[str], timeline: Timeline, out: Path) -> Path:
    """Write the video with the current label on every frame: no sound, constant mean frame rate, gaps cut out.

    Raises VideoError when the video can't be read, UserError when the file can't be written.
    """
    info = probe(source, time_limit=None)
    write_video(out, _labelled(source, timeline), info.fps)
    return out


def _by_time(timeline: Timeline) -> list[str]:
    """The labels that have a segment, by total time, longest first."""
    spent: Counter[str] = Counter()
    for segment in timeline.segments:
        spent[segment.label] += segment.end - segment.start  # type: ignore[assignment]
    return [label for label, _ in spent.most_common()]


def _weights(timeline: Timeline, segment: Segment) -> list[tuple[float, float]]:
    """(seconds, weight) of the frames of a segment: the mean over the windows of its label; 1 is that of all frames."""
    found: dict[float, list[float]] = {}
    for answer in timeline.windows:
        if answer.explanation is not None and answer.label == segment.label:
            [part] = answer.explanation.classes
            for time, weight in zip(answer.explanation.times, part.weights, strict=True):
                if segment.start <= time < segment.end:
                    found.setdefault(time, []).append(weight * len(part.weights))
    return [(time, sum(weights) / len(weights)) for time, weights in sorted(found.items())]


def _note(timeline: Timeline) -> str:
    """What must be known about the bars; "" where there are none, or they are exact."""
    rules = {answer.explanation.rule for answer in timeline.windows if answer.explanation is not None}
    return "bars: an approximation" if "approximation" in rules else ""


def _shortened(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The label, shortened to fit into its column of the chart."""
    if font.getlength(label) <= _LABEL_WIDTH:
        return label
    kept = next(n for n in range(len(label), -1, -1) if font.getlength(f"{label[:n]}…") <= _LABEL_WIDTH)
    return f"{label[:kept].rstrip()}…"


def _labelled(source: str | os.PathLike[str], timeline: Timeline) -> Iterator[np.ndarray]:
    answers = iter(timeline.windows)
    current = next(answers)
    coming = next(answers, None)
    ranked = dict.fromkeys((*_by_time(timeline), *timeline.labels))  # colours as in the plot
    colours = {label: _colour(row) for row, label in enumerate(ranked)}
    for time, frame in iter_frames(source):
        while coming is not None and time >= _border(current, coming):
            current, coming = coming, next(answers, None)
        yield _with_label(frame, current, colours[current.label])


def _border(a: Answer, b: Answer) -> float:
    """The time at which the shown label changes from window `a` to `b`: halfway between their middles."""
    return (a.start + a.end + b.start + b.end) / 4


def _with_label(frame: np.ndarray, answer: Answer, colour: Colour) -> np.ndarray:
    """The frame with a bar at its lower edge: the label, and a coloured part as long as the answer is probable."""
    height, width = frame.shape[:2]
    bar = max(14, height // 12)
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, height - bar, width, height), fill=(20, 20, 20))
    draw.rectangle(
        (0, height - bar, int(width * answer.probability), height), fill=_faded(colour, 0.35, (20, 20, 20))
    )
    text = f"{answer.label}  {100 * answer.probability:.0f} %"
    size = max(9, int(bar * 0.62))
    size = max(7, min(size, int(size * (width - 8) / max(_font(size).getlength(text), 1))))
    draw.text((4, height - bar // 2), text, fill="white", font=_font(size), anchor="lm")
    return np.asarray(picture)


def _draw_axis(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    duration: float,
    left: int,
    top: int,
    scale: float,
) -> None:
    hours = _TICKS[-1] * math.ceil(duration / _TICKS[-1] / _MOST_MARKS)
    step = next((tick for tick in _TICKS if duration / tick <= _MOST_MARKS), hours)
    for index in range(int(duration / step) + 1):
        x = left + index * step * scale
        draw.line((x, top, x, top + 5), fill="black")
        draw.text((x, top + 8), _clock(index * step), fill="black", font=font, anchor="ma")
    draw.line((left, top, left + duration * scale, top), fill="black")


def _clock(seconds: float) -> str:
    """`12.5 s` below a minute, `2:05` from a minute on."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _colour(index: int) -> Colour:
    """Hues a golden angle apart: neighbours differ."""
    r, g, b = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, 0.8)
    return round(255 * r), round(255 * g), round(255 * b)


def _faded(colour: Colour, strength: float, towards: Colour = (255, 255, 255)) -> Colour:
    share = 0.25 + 0.75 * strength
    r, g, b = (round(share * c + (1 - share) * t) for c, t in zip(colour, towards, strict=True))
    return r, g, b


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
