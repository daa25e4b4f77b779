"""`predict --timeline` and `predict --follow`: answers over time for one long video or a stream."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ga2clip.text import counted, printable
from ga2clip_cli import console

if TYPE_CHECKING:
    from ga2clip.runtime import Predictor
    from ga2clip.runtime.stream import StreamResult
    from ga2clip.runtime.timeline import Timeline
    from ga2clip.video import LocalFile


def find_segments(predictor: "Predictor", video: "LocalFile", **question: Any) -> "Timeline":
    """The timeline of a video, with a progress display."""
    from ga2clip.runtime.timeline import timeline

    with console.seconds_bar() as show:
        result = timeline(predictor, video, progress=show, **question)
    return replace(result, file=video.name)


def show_segments(
    result: "Timeline",
    video: "LocalFile",
    *,
    as_json: bool,
    csv: Path | None,
    vtt: Path | None,
    plot_to: Path | None,
    render_to: Path | None,
) -> None:
    """Print the segments or write them to a CSV file; write subtitles, draw or render them if asked for."""
    from ga2clip.files import write_text

    if vtt is not None:
        write_text(vtt, result.to_vtt())
        console.note(f"subtitles: {vtt}")
    if plot_to is not None:
        from ga2clip.runtime.draw_timeline import plot

        console.note(f"plot: {plot(result, plot_to)}")
    if render_to is not None:
        from ga2clip.runtime.draw_timeline import render

        console.note(f"video: {render(video, result, render_to)}")
    if csv is not None:
        write_text(csv, result.to_csv())
    elif as_json:
        console.emit_json(result.to_json())
    else:
        console.emit(result.table())


def follow_stream(predictor: "Predictor", source: str, *, as_json: bool, **options: Any) -> None:
    """Print a line for each window of a stream until it ends."""
    import json

    from ga2clip.runtime.stream import follow

    for result in follow(predictor, source, **options):
        console.emit(json.dumps(result.to_json()) if as_json else _line(result))


def _line(result: "StreamResult") -> str:
    if result.gap is not None:
        return f"{result.time:8.1f} s  gap: no frames for {result.gap.end - result.gap.start:.1f} s"
    ranking = ",  ".join(f"{100 * score:5.1f} %  {printable(label)}" for label, score in result.predictions)
    late = f"  ({counted(result.dropped, 'frame')} dropped)" if result.dropped else ""
    return f"{result.time:8.1f} s  {ranking}{late}"
