"""`ga2clip info`: a summary of a bundle or a run."""

from pathlib import Path
from typing import Annotated

import typer

from ga2clip.errors import UserError
from ga2clip.text import counted, printable
from ga2clip_cli import console
from ga2clip_cli.options import AsJson, Verify

EXAMPLES = (
    "ga2clip info runs/ga2/bundle",
    "ga2clip info runs/ga2/bundle --verify key.pub",
    "ga2clip info runs/ga2 --json",
)


def info(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE|RUN", help="A folder that export or train wrote.")],
    as_json: AsJson = False,
    verify: Verify = None,
) -> None:
    """Show a summary of a bundle or a run.

    Method, backbone and licence, classes, preprocessing, agreement with torch. The files of a bundle are checked
    against their recorded hashes.
    """
    from ga2clip.folders import SETTINGS_FILE

    if (path / SETTINGS_FILE).is_file():
        if verify is not None:
            raise UserError(f"{path} is a run; only bundles are signed", "leave out --verify")
        _show_run(path, as_json=as_json)
        return
    from ga2clip.evaluation.open_predictor import nothing_there
    from ga2clip.runtime import is_bundle, open_bundle

    if not is_bundle(path):
        raise nothing_there(path)
    bundle = open_bundle(path, signed_by=verify)
    bundle.verify()
    if verify is not None:
        console.note(printable(f"signed with the key of {verify}"))
    if as_json:
        console.emit_json(bundle.card.model_dump(mode="json"))
    else:
        console.emit(bundle.describe())


def _show_run(path: Path, *, as_json: bool) -> None:
    """Loads neither torch nor the runtime."""
    from ga2clip.run import load_run

    run = load_run(path)
    if as_json:
        console.emit_json(
            {**run.meta, "classes": run.classes, "settings": run.settings.model_dump(mode="json")}
        )
        return
    data, method = run.settings.data, run.settings.method
    lines = [
        f"run       {path}",
        f"method    {method.name} on {run.meta['backbone']} (licence of the backbone: {run.meta['licence']})",
    ]
    if imported := run.meta.get("imported"):
        lines.append(f"imported  from {imported['checkpoint']} and {imported['clip']}")
    shots = f"{data.shots} shots" if data.shots else "all training clips"
    known = f"{data.dataset}, {data.protocol}, {shots}, " if data.dataset else ""
    lines += [
        f"data      {known}{counted(data.frames, 'frame')} a clip",
        *(["learned   its classes from the training clips"] if method.teach else []),
        f"classes   {len(run.classes)}: {', '.join(run.classes)}",
    ]
    console.emit("\n".join(map(printable, lines)))
