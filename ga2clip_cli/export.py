"""`ga2clip export`: a run as a verified ONNX bundle."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Classes, ImageSize, NewestRun, Root, newest_run

EXAMPLES = (
    "ga2clip export",
    "ga2clip export runs/ga2",
    "ga2clip export runs/ga2 --precision int8 --out bundles/ga2-int8",
    "ga2clip export runs/ga2 --verify-accuracy --triton models",
    "ga2clip export runs/ga2 --sign key.pem",
    "ga2clip export --backbone ViT-B-16 --pretrained openai --classes labels.txt --out bundle",
)


def export(
    run: NewestRun = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle's folder [default: RUN/bundle].")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Instead of a run: a backbone as it is; needs --classes and --out."
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="TAG|PATH",
            help="Weights of --backbone [default: openai, or the only ones there are; the built-in ones of tiny]. "
            "A folder or file with a config beside it needs no --backbone.",
        ),
    ] = None,
    classes: Classes = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="With a backbone: frames taken from a clip [default: 8].")
    ] = None,
    image_size: ImageSize = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="{precisions}; fp16 is for GPUs, int8 for CPUs.")
    ] = "fp32",
    opset: Annotated[
        int | None, typer.Option(metavar="N", help="ONNX opset [default: the precision's best].")
    ] = None,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic/--static",
            help="Input of any number of clips and frames, or of one clip of the run's length.",
        ),
    ] = True,
    clips: Annotated[
        list[Path] | None,
        typer.Option(
            "--clip",
            metavar="FILE",
            help="Video to compare torch and ONNX on, instead of training clips; repeatable.",
        ),
    ] = None,
    root: Root = None,
    verify_accuracy: Annotated[
        bool, typer.Option("--verify-accuracy", help="Measure the exported model on the run's test clips.")
    ] = False,
    triton: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write an NVIDIA Triton model repository.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign the bundle with this Ed25519 key (PEM).")
    ] = None,
) -> None:
    """Export a run or a backbone as an ONNX bundle.

    Prompts and mapping layers are folded into constants; the bundle predicts without torch. If torch and ONNX Runtime
    differ on real frames and texts by more than the precision's tolerance, the export fails and writes nothing.
    """
    shared: dict[str, Any] = {
        "precision": precision,
        "opset": opset,
        "static": not dynamic,
        "clips": clips or (),
        "triton": triton,
        "sign_with": sign,
    }
    if backbone is not None or pretrained is not None:
        if run is not None or root is not None or verify_accuracy:
            raise typer.BadParameter("a backbone is exported without a run, its --root and --verify-accuracy")
        if classes is None or out is None:
            raise typer.BadParameter("--backbone and --pretrained need --classes FILE and --out DIR")
        from ga2clip.descriptions import given_classes

        names = given_classes(classes)
        from ga2clip_export.export import export_backbone

        path = export_backbone(
            backbone or "",
            out,
            classes=names,
            pretrained=pretrained,
            frames=frames or 8,
            image_size=image_size or 0,
            **shared,
        )
    else:
        if (classes, frames, image_size) != (None, None, None):
            raise typer.BadParameter(
                "--classes, --frames and --image-size go with --backbone or --pretrained"
            )
        if root is not None and clips and not verify_accuracy:
            raise typer.BadParameter(
                "--root needs --verify-accuracy beside --clip, which takes the dataset's place"
            )
        place = run or newest_run()
        from ga2clip_export.export import export_run

        where = "" if root is None else str(root)
        path = export_run(place, out, root=where, verify_accuracy=verify_accuracy, **shared)
    console.emit(str(path))
