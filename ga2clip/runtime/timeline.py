"""The timeline of a long video: segments (start, end, label, score), in memory that doesn't grow with the video.

Each frame is encoded once, at `fps` frames per second. Sliding windows pool the frame features (`sliding.py`) and
give class probabilities, which may be smoothed over time. A model whose frames are not independent encodes each window
as a clip of its own instead. Consecutive windows with the same best class form a segment.
Windows and segments end at a gap in the video (`ga2clip.video.clock`).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ga2clip.predictions import Explanation
from ga2clip.runtime.arguments import flag, video_path, zero_or_more
from ga2clip.runtime.explain import explain as explain_labels
from ga2clip.runtime.frames import WindowEncoder, kept_frames
from ga2clip.runtime.predictor import Classes, Predictor
from ga2clip.runtime.scoring import Scorer
from ga2clip.runtime.sliding import Features, Window, check_window, windows
from ga2clip.text import counted, csv_lines, printable
from ga2clip.video import Gap

_Scored = tuple[Window, np.ndarray]


@dataclass(frozen=True)
class Segment:
    """Seconds during which one label is the most probable, and its mean probability there."""

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class Answer:
    """The best label of one window, and, where it was asked for, which frames carried it."""

    start: float
    end: float
    label: str
    probability: float
    explanation: Explanation | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"start", "end", "label", "probability"}`, with `"explanation"` where there is one."""
        tree = {key: value for key, value in vars(self).items() if key != "explanation"}
        return tree if self.explanation is None else tree | {"explanation": self.explanation.to_json()}


@dataclass(frozen=True)
class Timeline:
    """The segments, windows and gaps of one video.

    windows: one answer per window; windows overlap. gaps: times without frames, which have no label. encoded_frames:
    number of frames that were encoded, for each window anew where the model's frames are not independent.
    reused_frames: of frames that had not changed since the last encoded one. labels: the labels that were ranked.
    """

    file: str
    duration: float
    window: float
    stride: float
    fps: float
    encoded_frames: int
    labels: tuple[str, ...]
    segments: tuple[Segment, ...]
    windows: tuple[Answer, ...]
    gaps: tuple[Gap, ...] = ()
    reused_frames: int = 0

    def to_json(self) -> dict[str, Any]:
        """The timeline as a JSON object; segments, gaps and windows are lists of objects, times in s."""
        return {
            "file": self.file,
            "duration": self.duration,
            "window": self.window,
            "stride": self.stride,
            "fps": self.fps,
            "encoded_frames": self.encoded_frames,
            "reused_frames": self.reused_frames,
            "segments": [vars(segment) for segment in self.segments],
            "gaps": [vars(gap) for gap in self.gaps],
            "windows": [answer.to_json() for answer in self.windows],
        }

    def to_csv(self) -> str:
        """CSV with the columns `path,start,end,label,score`, a row per segment; a gap has no label and score.

        `ga2clip prepare --dataset csv` reads it, also after corrections by hand.
        """
        rows = [
            (self.file, f"{part.start:.3f}", f"{part.end:.3f}")
            + (("", "") if isinstance(part, Gap) else (part.label, f"{part.score:.6f}"))
            for part in self._in_order()
        ]
        return csv_lines([("path", "start", "end", "label", "score"), *rows])

    def to_vtt(self) -> str:
        """Subtitles in WebVTT (W3C), a cue per segment: its label and probability, for any player."""
        cues = [
            f"{_clock(s.start)} --> {_clock(s.end)}\n{_cue_text(s.label)} ({100 * s.score:.0f} %)\n"
            for s in self.segments
        ]
        return "\n".join(["WEBVTT\n", *cues])

    def table(self) -> str:
        """A readable table of segments and gaps, with the number of encoded frames."""
        lines = [
            f"{part.start:9.2f} – {part.end:8.2f} s  "
            + (
                "   gap: no frames"
                if isinstance(part, Gap)
                else f"{100 * part.score:5.1f} %  {printable(part.label)}"
            )
            for part in self._in_order()
        ]
        frames = f"{counted(self.encoded_frames, 'frame')} encoded"
        if self.reused_frames:
            frames += f", {self.reused_frames} had not changed"
        took = f"{self.duration:.1f} s, {frames}, {len(self.windows)} windows"
        return "\n".join([f"{printable(self.file)}  ({took})", *lines])

    def _in_order(self) -> list[Segment | Gap]:
        parts: list[Segment | Gap] = [*self.segments, *self.gaps]
        return sorted(parts, key=lambda part: part.start)


def _clock(seconds: float) -> str:
    """A time as `HH:MM:SS.mmm`."""
    whole = round(1000 * seconds)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def _cue_text(label: str) -> str:
    """A label as text of a cue, without markup (WebVTT, section 4.2.2)."""
    return printable(label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def timeline(
    predictor: Predictor,
    source: str | os.PathLike[str],
    *,
    window: float = 2.0,
    stride: float = 0.5,
    fps: float = 4.0,
    classes: Classes | None = None,
    template: str | None = None,
    reject: bool = False,
    smooth: float = 0.0,
    min_length: float = 0.0,
    still: float | None = None,
    explain: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Timeline:
    """The timeline of a video file.

    Args:
        predictor: the model.
        source: the file.
        window: seconds of video that one answer is about.
        stride: seconds from one answer to the next.
        fps: frames encoded per second of video, at most.
        classes: names to choose from; None: `Predictor.classes`.
        template: a sentence with `{}` for the name, instead of the model's class text.
        reject: let "none of these" take part.
        smooth: seconds of a moving average over the answers; 0: none.
        min_length: segments shorter than this many seconds are left out.
        still: a frame whose pixels (of 255) moved less than this since the last encoded one, in every block, keeps its
            features; 0: encode all frames. None: 1, or 0 for a model whose frames are not independent.
        explain: also say which frames carried the answer of each window.
        progress: called with the seconds of video that are done.

    Raises:
        UserError: numbers or classes that can't be used, or a model that can't reject.
        VideoError: the file can't be decoded.
    """
    check_window(window, stride, fps)
    video_path(source)
    explain = flag("explain", explain)
    zero_or_more("smooth", smooth)
    zero_or_more("min_length", min_length)
    scorer = predictor.scorer(classes, template, reject)
    encoder = WindowEncoder(predictor, still)
    frames = _watched(kept_frames(predictor, source, fps, encoder), progress)
    parts = windows(frames, window, stride, 1 / fps, encoder.pool)
    scored = (w if isinstance(w, Gap) else (w, scorer.probabilities(w.feature[None])[0]) for w in parts)
    builder = _Segments(scorer.labels, min_length)
    answers: list[Answer] = []
    gaps: list[Gap] = []
    for item in smoothed(scored, 2 * int(smooth / stride / 2) + 1):
        if isinstance(item, Gap):
            gaps.append(item)
            builder.add_gap(item)
            continue
        part, probabilities = item
        builder.add(part, probabilities)
        best = int(probabilities.argmax())
        label = scorer.labels[best]
        found = _explained(predictor, encoder, scorer, part, label) if explain else None
        answers.append(Answer(part.start, part.end, label, float(probabilities[best]), found))
    duration = answers[-1].end
    return Timeline(
        file=os.fspath(source),
        duration=duration,
        window=window,
        stride=stride,
        fps=fps,
        encoded_frames=encoder.encoded,
        reused_frames=encoder.reused,
        labels=scorer.labels,
        segments=builder.finish(duration),
        windows=tuple(answers),
        gaps=tuple(gaps),
    )


def _explained(
    predictor: Predictor, encoder: WindowEncoder, scorer: Scorer, window: Window, label: str
) -> Explanation:
    times, kept = zip(*window.inside, strict=True)
    features = encoder.frame_features(np.stack(kept))
    return explain_labels(scorer, features, predictor.pool, [label], times)


def smoothed(scored: Iterable[_Scored | Gap], length: int) -> Iterator[_Scored | Gap]:
    """Each window with the mean probabilities of the `length` (odd) windows centred on it.

    Fewer are averaged at both ends of the video and beside a gap, which no average crosses.
    """
    half = length // 2
    around: deque[_Scored] = deque()
    first = done = arrived = 0

    def centre() -> _Scored:
        nonlocal first, done
        while first < done - half:
            around.popleft()
            first += 1
        part = around[done - first][0]
        done += 1
        return part, np.mean([probabilities for _, probabilities in around], axis=0)

    for item in scored:
        if isinstance(item, Gap):
            while done < arrived:
                yield centre()
            yield item
            around.clear()
            first = done = arrived = 0
            continue
        around.append(item)
        arrived += 1
        if arrived > half:
            yield centre()
    while done < arrived:
        yield centre()


@dataclass
class _Run:
    """Consecutive windows with the same best label: start and end, summed probability, number of windows."""

    label: int
    start: float
    end: float
    total: float
    count: int


class _Segments:
    """Joins windows with the same best label into segments.

    The border between two labels is halfway between the middles of their windows.
    """

    def __init__(self, labels: Sequence[str], min_length: float) -> None:
        self._labels, self._min_length = labels, min_length
        self._kept: list[_Run] = []
        self._open: _Run | None = None
        self._begin = 0.0  # of the video, or the end of the last gap
        self._middle = 0.0

    def add(self, window: Window, probabilities: np.ndarray) -> None:
        """The next window."""
        best = int(probabilities.argmax())
        middle = (window.start + window.end) / 2
        if self._open is None or self._open.label != best:
            border = (self._middle + middle) / 2 if self._open else self._begin
            self._close(border)
            self._open = _Run(best, border, window.end, 0.0, 0)
        self._open.total += float(probabilities[best])
        self._open.count += 1
        self._middle = middle

    def add_gap(self, gap: Gap) -> None:
        """End the current segment at gap.start; the next one begins at gap.end."""
        self._close(gap.start)
        self._open = None
        self._begin = gap.end

    def finish(self, duration: float) -> tuple[Segment, ...]:
        """All segments of at least the minimal length."""
        self._close(duration)
        return tuple(Segment(r.start, r.end, self._labels[r.label], r.total / r.count) for r in self._kept)

    def _close(self, end: float) -> None:
        """End the current run. Drop it if it is too short; join it to the segment before if that has the same label."""
        run = self._open
        if run is None:
            return
        run.end = end
        if run.end - run.start < self._min_length:
            return
        last = self._kept[-1] if self._kept else None
        joined = last and last.label == run.label and last.end >= self._begin
        if last and joined and run.start - last.end < self._min_length:
            last.end, last.total, last.count = run.end, last.total + run.total, last.count + run.count
        else:
            self._kept.append(run)


def _watched(frames: Features, progress: Callable[[float], None] | None) -> Features:
    """The same, reporting the seconds of video that have come."""
    for item in frames:
        if progress and not isinstance(item, Gap):
            progress(item[0])
        yield item
