"""`ga2clip cache`: shows, checks or deletes the cached features of class names; deletes records of whole files."""

from typing import Annotated, Literal

import typer

from ga2clip.text import counted
from ga2clip_cli import console
from ga2clip_cli.options import AsJson

EXAMPLES = ("ga2clip cache", "ga2clip cache verify", "ga2clip cache clear")


def cache(
    action: Annotated[
        Literal["info", "verify", "clear"],
        typer.Argument(help="Show the size, check every feature, or delete all of them."),
    ] = "info",
    as_json: AsJson = False,
) -> None:
    """Show, check or clear the cached features of class names.

    Features of class names that are not a bundle's own are kept in GA2CLIP_CACHE or the user's cache folder. The exit
    code of `verify` is 1 if a feature was changed since it was written. `clear` also forgets which large files of
    bundles were whole, so that they are hashed again.
    """
    from ga2clip.runtime.feature_cache import cache_folder, check_cache, clear_cache
    from ga2clip.runtime.known_files import forget_files

    folder = str(cache_folder())
    if action == "clear":
        files, size = clear_cache()
        forget_files()
        console.emit_json({"folder": folder, "deleted": files, "bytes": size}) if as_json else console.emit(
            f"{counted(files, 'file')} deleted ({size:,} bytes) in {folder}"
        )
        return
    files_of_cache = check_cache()
    faulty = [file for file in files_of_cache if file.fault]
    if as_json:
        rows = [{**vars(file), "path": str(file.path)} for file in files_of_cache]
        console.emit_json({"folder": folder, "files": rows})
    else:
        total = sum(file.features for file in files_of_cache)
        size = sum(file.bytes for file in files_of_cache)
        console.emit(
            f"{counted(total, 'feature')} of {counted(len(files_of_cache), 'model')} ({size:,} bytes) in {folder}"
        )
        if action == "verify":
            console.emit(
                "\n".join([*(f"{file.path}: {file.fault}" for file in faulty)] or ["all as written"])
            )
    if action == "verify" and faulty:
        console.note(
            "hint: ga2clip cache clear deletes them; features are computed again when they are needed"
        )
        raise typer.Exit(1)
