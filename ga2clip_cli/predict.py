"""`ga2clip predict`: a ranking of classes for each video, or for windows of one long video or stream."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ga2clip.text import printable
from ga2clip_cli import console
from ga2clip_cli.options import AsJson, Classes, Device, Provider, Still, Threads, Verify, typed

EXAMPLES = (
    "ga2clip predict clip.mp4 --classes labels.txt",
    "ga2clip predict clip.mp4 --classes 'kicking a ball, riding a bike'",
    "ga2clip predict clips/ --model runs/ga2/bundle --top 3 --jsonl answers.jsonl",
    "ga2clip predict clips/ --resume answers.jsonl",
    "ga2clip predict clip.mp4 --model ViT-B-16:openai --classes labels.txt --json",
    "ga2clip predict clips/ --multi-label --threshold thresholds.json --jsonl answers.jsonl",
    "ga2clip predict clip.mp4 --coverage 0.9",
    "ga2clip predict clip.mp4 --explain --plot frames.png",
    "ga2clip predict https://host/clip.mp4 --classes labels.txt",
    "ga2clip predict long.mp4 --timeline --window 2 --stride 0.5 --plot timeline.png",
    "ga2clip predict long.mp4 --timeline --csv spans.csv --vtt long.vtt",
    "ga2clip predict rtsp://camera/stream --follow --classes labels.txt",
)


def predict(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|FOLDER...",
            help="Videos: files, folders, http addresses, - for stdin. With --follow streams, too.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME",
            help="A bundle, a run, or a backbone for zero-shot [default: the newest bundle here, else tiny].",
        ),
    ] = None,
    classes: Classes = None,
    top: Annotated[
        int,
        typer.Option(min=1, help="Classes shown for each video; a line of --follow has one unless given."),
    ] = 5,
    template: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Sentence with {} for the class name.")
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Allow the answer 'none of these'.")] = False,
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Score each class by itself: several may be true, or none."),
    ] = False,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|FILE",
            help='With --multi-label: score from which a class is true, or JSON {"name": score} '
            "[default: those of the bundle].",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Also give a set of classes that holds the true one this often."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also say which frames carried the answer (not with --follow).")
    ] = False,
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(metavar="OUT", help="Write a CSV file as results come.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a JSON object a line as results come.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Continue a CSV or JSON Lines file; videos in it are skipped."),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Videos encoded at once (not with --timeline, --follow, --explain).")
    ] = 4,
    workers: Annotated[
        int, typer.Option(min=1, help="Videos decoded at once (not with --timeline, --follow).")
    ] = 1,
    device: Device = "auto",
    provider: Provider = "auto",
    threads: Threads = 0,
    verify: Verify = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Find segments with their times in one long video.")
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Rank classes while a stream plays: an address, camera, - (stdin) or file."
        ),
    ] = False,
    window: Annotated[float, typer.Option(min=0.1, help="Timeline: seconds that are averaged.")] = 2.0,
    stride: Annotated[float, typer.Option(min=0.05, help="Timeline: seconds between answers.")] = 0.5,
    fps: Annotated[float, typer.Option(min=0.1, help="Timeline: frames encoded per second.")] = 4.0,
    smooth: Annotated[float, typer.Option(min=0, help="Timeline: seconds of smoothing.")] = 0.0,
    min_length: Annotated[float, typer.Option(min=0, help="Timeline: shortest segment, seconds.")] = 0.0,
    still: Still = None,
    vtt: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Timeline: write subtitles (WebVTT).")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Timeline: draw a chart. With --explain: the frames.")
    ] = None,
    render: Annotated[
        Path | None, typer.Option(metavar="MP4", help="Timeline: write the video with labels.")
    ] = None,
) -> None:
    """Name the action in videos.

    --classes gives any list of actions, also ones that the model was not trained on, or JSON {"name": ["sentence"]}
    with descriptions of them; without it, the model's own classes are ranked. The name of the model is printed on
    stderr.
    """
    outputs = {"--json": as_json, "--csv": csv, "--jsonl": jsonl, "--resume": resume}
    kind = "--timeline" if timeline else "--follow" if follow else ""
    outputs |= {"--vtt": vtt, "--plot": plot, "--render": render}
    _check_outputs(kind, outputs, explain=explain)
    _check_options(kind, context)
    if explain:
        _check_explain(kind, outputs, context)
    _check_videos(kind, files)
    if timeline and follow:
        raise typer.BadParameter("--timeline and --follow exclude each other")
    _check_choice(kind, multi_label, threshold, coverage, csv or resume)
    _keep_what_is_there(kind, files, csv or jsonl, render)
    if vtt is not None:
        _keep_what_is_there(kind, files, vtt, None)
    with console.loading():
        # First, because loaded from deeper inside its modules cross the end of a page of Python's stack, which is
        # then mapped and given back 3,000 times (Python 3.11).
        import numpy  # noqa: F401

        from ga2clip.descriptions import given_classes
        from ga2clip.evaluation.open_predictor import open_predictor
        from ga2clip.runtime.calibration import Coverage, MultiLabel, read_thresholds
        from ga2clip.video import local_file
        from ga2clip_cli import answers
        from ga2clip_cli import timeline as spans

        choice = (
            MultiLabel(None if threshold is None else read_thresholds(threshold))
            if multi_label
            else None
            if coverage is None
            else Coverage(coverage)
        )
        names = None if classes is None else given_classes(classes)
        opened = open_predictor(
            model,
            classes=names,
            provider=provider,
            device=device,
            threads=threads,
            signed_by=verify,
            wait=bool(csv or jsonl or resume),  # a file of answers is begun when the model can answer
        )
    with opened as predictor:
        console.note(printable(f"model: {predictor.name} · provider: {predictor.provider}"))
        if predictor.scoring == "sigmoid":
            console.note("each class has a probability of its own (sigmoid): they need not sum to 100 %")
        question: dict[str, Any] = {"classes": names, "template": template, "reject": reject}
        if timeline or follow:
            question |= {"window": window, "stride": stride, "fps": fps, "still": still}
        if follow:
            shown = top if as_json or typed(context, "--top") else 1
            spans.follow_stream(predictor, files[0], as_json=as_json, top=shown, **question)
        elif timeline:
            question |= {"smooth": smooth, "min_length": min_length, "explain": explain}
            with local_file(files[0]) as video:
                result = spans.find_segments(predictor, video, **question)
                spans.show_segments(
                    result, video, as_json=as_json, csv=csv, vtt=vtt, plot_to=plot, render_to=render
                )
        else:
            question |= {"top": top, "batch": batch, "workers": workers, "choice": choice}
            question |= {"explain": explain}
            sink = answers.open_sink(
                predictor, question, as_json=as_json, csv=csv, jsonl=jsonl, resume=resume
            )
            if answers.answer_files(predictor, files, sink, plot, **question):
                raise typer.Exit(1)


_OUTPUTS = {
    "": {"--json", "--csv", "--jsonl", "--resume"},
    "--timeline": {"--json", "--csv", "--vtt", "--plot", "--render"},
    "--follow": {"--json"},
}
"""The output options of each kind of answer."""


def _check_outputs(kind: str, outputs: dict[str, Any], *, explain: bool) -> None:
    given = [option for option, value in outputs.items() if value]
    for option in given:
        if option not in _OUTPUTS[kind] and not (explain and not kind and option == "--plot"):
            owners = [name for name, known in _OUTPUTS.items() if option in known and name]
            more = " or --explain" if option == "--plot" else ""
            raise typer.BadParameter(
                f"{option} does not go with {kind}" if kind else f"{option} needs {owners[0]}{more}"
            )
    exclusive = [option for option in given if option not in ("--vtt", "--plot", "--render")]
    if len(exclusive) > 1:
        raise typer.BadParameter(f"{exclusive[0]} and {exclusive[1]} exclude each other")


_OPTIONS = {
    "": {"--batch", "--workers", "--top"},
    "--timeline": {"--window", "--stride", "--fps", "--still", "--smooth", "--min-length"},
    "--follow": {"--window", "--stride", "--fps", "--still", "--top"},
}
"""The options that some kinds of answer have a use for, and others have not."""


def _check_options(kind: str, context: typer.Context) -> None:
    for option in sorted(set().union(*_OPTIONS.values()) - _OPTIONS[kind]):
        if typed(context, option):
            owners = " or ".join(name for name, known in _OPTIONS.items() if option in known and name)
            raise typer.BadParameter(
                f"{option} does not go with {kind}" if kind else f"{option} needs {owners}"
            )


def _check_explain(kind: str, outputs: dict[str, Any], context: typer.Context) -> None:
    if kind == "--follow":
        raise typer.BadParameter("--explain does not go with --follow")
    if typed(context, "--batch"):
        raise typer.BadParameter("--batch does not go with --explain, which encodes videos one by one")
    if kind and not outputs["--json"] and not outputs["--plot"]:
        raise typer.BadParameter("--explain with --timeline is shown by --json or --plot")
    table = outputs["--csv"] or outputs["--resume"]
    if not kind and table and table.suffix.lower() not in (".json", ".jsonl"):
        raise typer.BadParameter("a CSV file has no place for what --explain says: take --jsonl")


def _check_choice(
    kind: str, multi_label: bool, threshold: str | None, coverage: float | None, table: Path | None
) -> None:
    if threshold is not None and not multi_label:
        raise typer.BadParameter("--threshold needs --multi-label")
    if multi_label and coverage is not None:
        raise typer.BadParameter("--multi-label and --coverage exclude each other")
    given = "--multi-label" if multi_label else "--coverage"
    if not multi_label and coverage is None:
        return
    if kind:
        raise typer.BadParameter(f"{given} does not go with {kind}")
    if table is not None and table.suffix.lower() != ".jsonl" and table.suffix.lower() != ".json":
        raise typer.BadParameter(f"a CSV file has no place for what {given} chooses: take --jsonl")


def _keep_what_is_there(kind: str, files: list[str], table: Path | None, render: Path | None) -> None:
    """Raises, before a model is loaded, if an output would overwrite earlier answers or the video itself."""
    if table is not None:
        from ga2clip.files import refuse_existing

        again = "" if kind else f"continue it with --resume {table}, or "
        refuse_existing(table, f"{again}delete it first")
    if render is not None and render.exists() and render.samefile(files[0]):
        raise typer.BadParameter("--render would overwrite the input video")


def _check_videos(kind: str, files: list[str]) -> None:
    if kind and len(files) != 1:
        raise typer.BadParameter("--timeline and --follow take one video")
    if files.count("-") > 1:
        raise typer.BadParameter("standard input ('-') can only be read once")
    streams = [file for file in files if "://" in file and not file.lower().startswith(_RECORDED)]
    if streams and kind != "--follow":
        raise typer.BadParameter(f"'{streams[0]}' is a stream: add --follow")


_RECORDED = ("http://", "https://", "file://")
"""Schemes of addresses that may be recorded videos."""
