"""`ga2clip export`: a run as a verified ONNX bundle."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip_cli import console
from ga2clip_cli.options import Root

EXAMPLES = (
    "ga2clip export runs/ga2",
    "ga2clip export runs/ga2 --precision int8 --out bundles/ga2-int8",
    "ga2clip export runs/ga2 --verify-accuracy --triton models",
    "ga2clip export runs/ga2 --sign key.pem",
)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that training or import wrote.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle's folder [default: RUN/bundle].")
    ] = None,
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
    """Export a run as a verified ONNX bundle.

    Prompts and mapping layers are folded into constants; the bundle predicts without torch. If torch and ONNX Runtime
    differ on real frames and texts by more than the precision's tolerance, the export fails and writes nothing.
    """
    from ga2clip_export.export import export_run

    path = export_run(
        run,
        out,
        precision=precision,
        opset=opset,
        static=not dynamic,
        clips=clips or (),
        root="" if root is None else str(root),
        verify_accuracy=verify_accuracy,
        triton=triton,
        sign_with=sign,
    )
    console.emit(str(path))
