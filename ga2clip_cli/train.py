"""`ga2clip train`: options become a settings tree, one call trains, the run's folder is printed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ga2clip_cli import console
from ga2clip_cli.options import (
    ClassNames,
    Descriptions,
    Device,
    ImageSize,
    Overrides,
    Protocol,
    Root,
    sets_seed,
)

EXAMPLES = (
    "ga2clip train --dataset stickfigures --shots 16",
    "ga2clip train --dataset stickfigures --method ivlp --couple --anchors --out runs/plugged",
    "ga2clip train --dataset ucf101 --root data/ucf101 --backbone ViT-B-16 --pretrained openai --dry-run",
    "ga2clip train --dataset stickfigures --set training.lr=0.01 --set data.frames=4",
    "ga2clip train --dataset ucf101 --root data/ucf101 --class-names raw",
    "ga2clip train --dataset ucf101 --root data/ucf101 --descriptions ucf_prompts_full.json",
    "ga2clip train --dataset stickfigures --seeds 1..5 --out runs/five",
    "ga2clip train --resume runs/plugged",
    "ga2clip train --dataset folder --root my-clips --val 0.2 --patience 5 --epochs 50",
    "ga2clip train --resume runs/plugged --set training.micro_batch=2",
    "ga2clip train --resume runs/plugged --epochs 20",
)

PANELS = {
    "Data": (
        *("dataset", "root", "protocol", "shots", "val", "frames", "class_names", "descriptions"),
        *("split_file", "test_split_file", "labels"),
    ),
    "Method": (
        *(
            "method",
            "backbone",
            "pretrained",
            "image_size",
            "hard_prompts",
            "couple",
            "anchors",
            "anchor_loss",
        ),
        *("scenario_weight", "tune", "interpolate"),
    ),
    "Optimisation": ("epochs", "patience", "batch_size", "lr", "classes_per_step", "seed", "seeds"),
}
"""Headings in the help, with the parameters below them; the others are `Options`."""


def train(
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A prepared dataset: {datasets}.")
    ] = None,
    root: Root = None,
    protocol: Protocol = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Clips per class; 0: all.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames taken from a clip.")] = None,
    class_names: ClassNames = None,
    descriptions: Descriptions = None,
    split_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A shared training list, lines `path label`."),
    ] = None,
    test_split_file: Annotated[
        str | None,
        typer.Option(metavar="FILE[,FILE]", help="The test lists that go with it."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[,FILE]",
            help="Files with lines id,name, one per test list.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="{methods}; see `ga2clip methods`."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="tiny (built in), an open_clip architecture, or openai.",
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="TAG|PATH",
            help="Weights: an open_clip tag, a file or a folder.",
        ),
    ] = None,
    image_size: ImageSize = None,
    hard_prompts: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="builtin, a run, a published file, or a phrase.",
        ),
    ] = None,
    couple: Annotated[
        bool | None,
        typer.Option(
            "--couple/--no-couple",
            help="Couple hard and soft prompts by a mapping.",
        ),
    ] = None,
    anchors: Annotated[
        bool | None,
        typer.Option("--anchors/--no-anchors", help="Train against negative prompts."),
    ] = None,
    anchor_loss: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="{anchor_losses}."),
    ] = None,
    scenario_weight: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the scenario term (ViLT-CLIP)."),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="PART",
            help="{tunes}; the last three tune whole towers too.",
        ),
    ] = None,
    interpolate: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the tuned backbone, mixed with the original.",
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Share of the training clips for validation."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=0, help="Epochs without a better validation, then it ends; 0: none."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Passes over the clips; extends a --resume RUN.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Clips per update, over all devices."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of prompts and other parts."),
    ] = None,
    classes_per_step: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Class texts per update, the batch's own always among them; 0: all.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the split, the prompts and the order."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="A..B|A,B",
            help="A run for each, in DIR/seed-N; finished ones are left as they are.",
        ),
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Loader processes; 0 loads in the training process."),
    ] = None,
    logger: Annotated[str | None, typer.Option(metavar="NAME", help="Metrics also go to {loggers}.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run's folder [default: runs/DATASET-METHOD-SEED; with --seeds runs/DATASET-METHOD].",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Settings instead of the dataset's own recipe.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="WHOSE",
            help="{presets}; authors: settings that the method's authors publish [default: ours].",
        ),
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue a stopped run, or extend one by --epochs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would train, and stop.")] = False,
) -> None:
    """Tune a method on a dataset and write a run.

    Settings come from the method, then the dataset's recipe, then the options given here, then --set; later ones win.
    All of them are written to the run's settings.toml; `ga2clip settings` explains each.
    """
    given: dict[str, dict[str, Any]] = {
        "data": {
            "root": None if root is None else str(root),
            "shots": shots,
            "val": val,
            "frames": frames,
            "split_file": split_file,
            "test_split_file": test_split_file,
            "labels": labels,
            "class_names": class_names,
        },
        "backbone": {"name": backbone, "pretrained": pretrained, "image_size": image_size},
        "method": {
            "hard_prompts": hard_prompts,
            "coupling": _switch(couple, "mapping", "none"),
            "tune": tune,
            "interpolate": interpolate,
        },
        "anchors": {"weight": _switch(anchors, 1.0, 0.0), "loss": anchor_loss},
        "loss": {"scenario": scenario_weight},
        "training": {
            "seed": seed,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "lr": lr,
            "classes_per_step": classes_per_step,
            "workers": workers,
            "logger": logger,
        },
    }
    if seed is not None and seeds is not None:
        raise typer.BadParameter("give --seed or --seeds, not both")
    if seeds is not None and sets_seed(overrides):
        raise typer.BadParameter("give --set training.seed or --seeds, not both")
    if resume is not None:
        del given["training"]["epochs"]
        if _compact(given) or {dataset, protocol, method, recipe, preset, descriptions, out, seeds} != {None}:
            raise typer.BadParameter(
                "a run continues with its own settings; only --epochs and --set may stand beside --resume"
            )
        from ga2clip.training.train import resume_settings

        settings, folder = resume_settings(resume, overrides or (), epochs=epochs), resume
    else:
        from ga2clip.training.configure import configure

        settings = configure(
            dataset=dataset,
            method=method,
            protocol=protocol,
            recipe=recipe,
            preset=preset,
            descriptions=descriptions,
            options=_compact(given),
            overrides=overrides or [],
        )
        name = f"{settings.data.dataset}-{settings.method.name}"
        folder = out or Path("runs") / (name if seeds else f"{name}-{settings.training.seed}")
    # Loads torch, which a mistyped setting need not wait for.
    from ga2clip.experiments.seeds import parse_seeds, train_seeds
    from ga2clip.training.train import result_table, summary
    from ga2clip.training.train import train as run_training

    chosen = None if seeds is None else parse_seeds(seeds)
    if dry_run:
        each = (
            "" if chosen is None else f"\nseeds     {', '.join(map(str, chosen))}: a run like this for each"
        )
        console.emit(summary(settings, device=device) + each)
        return
    where: dict[str, Any] = {"device": device, "progress": console.has_terminal()}
    if chosen is not None:
        folders = train_seeds(settings, folder, chosen, **where)
    else:
        folders = [run_training(settings, folder, resume=resume is not None, **where)]
    for path in folders:
        if console.is_first_process() and (table := result_table(path)):
            console.note(table)
        console.emit(str(path))


def _switch(given: bool | None, on: Any, off: Any) -> Any:
    """A flag as the value of a setting; a flag that wasn't given changes nothing."""
    return None if given is None else (on if given else off)


def _compact(tree: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Only what was given on the command line."""
    sections = {name: {k: v for k, v in values.items() if v is not None} for name, values in tree.items()}
    return {name: values for name, values in sections.items() if values}
