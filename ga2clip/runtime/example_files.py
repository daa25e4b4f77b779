"""Finds example clips for teaching: folders of class folders, CSV lists, or files and folders of one class."""

from collections.abc import Sequence
from pathlib import Path

from ga2clip.errors import UserError
from ga2clip.label_files import read_rows
from ga2clip.labels import comparable, letters, readable_name
from ga2clip.runtime.learn import Shown
from ga2clip.runtime.scoring import NONE_LABEL
from ga2clip.runtime.teaching import Kind
from ga2clip.video.find import find_videos

_LISTS = (".csv", ".tsv", ".txt")


def find_examples(
    paths: Sequence[Path], classes: Sequence[str], *, label: str | None = None, apart: bool = False
) -> list[Shown]:
    """The example clips in files and folders.

    Args:
        paths: with a label, videos and folders of videos; without one, folders whose subfolders are classes, and lists
            with the columns path,label (paths from the folder of the list).
        classes: the model's classes, which folders may spell otherwise (`RidingABike`).
        label: the class of all clips; "none of these" for clips that show none.
        apart: the clips look like the class but are not.

    Raises:
        UserError: something is missing or holds no clips, or a list is malformed.
    """
    shown: list[Shown] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"there is nothing at {path}")
        if label is not None:
            videos = find_videos(path) if path.is_dir() else [path]
            if not videos:
                raise UserError(f"{path} holds no videos")
            shown += [Shown(video, label, "not" if apart else _kind(label)) for video in videos]
        else:
            shown += _class_folders(path, classes) if path.is_dir() else _listed(path)
    return shown


def _class_folders(folder: Path, classes: Sequence[str]) -> list[Shown]:
    spelled = {letters(name): name for name in (*classes, NONE_LABEL)}
    shown = []
    for own in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = spelled.get(letters(own.name), readable_name(own.name))
        videos = find_videos(own)
        if not videos:
            raise UserError(f"{own} holds no videos", "each folder in it is a class with its clips")
        shown += [Shown(video, label, _kind(label)) for video in videos]
    if not shown:
        raise UserError(
            f"{folder} holds no class folders", "give FOLDER/CLASS/clip.mp4, or name the class with --class"
        )
    return shown


def _listed(path: Path) -> list[Shown]:
    if path.suffix.lower() not in _LISTS:
        raise UserError(f"{path}: which class is this clip of?", "name it with --class")
    shown = []
    for number, cells in read_rows(path, "list of examples"):
        if number == 1 and [cell.lower() for cell in cells[:2]] == ["path", "label"]:
            continue
        if len(cells) != 2 or not all(cells):
            raise UserError(f"{path}, line {number}: expected path,label")
        shown.append(Shown(path.parent / cells[0], cells[1], _kind(cells[1])))
    if not shown:
        raise UserError(f"{path} lists no clips", "write a line path,label for each")
    return shown


def _kind(label: str) -> Kind:
    return "none" if comparable(label) == NONE_LABEL else "class"
