"""The user's own clips, in one folder per class."""

import logging
from collections.abc import Sequence

from ga2clip.data.declaration import Dataset, Listing, Source
from ga2clip.data.listing import SPLIT_NAMES, own_splits
from ga2clip.data.manifest import relative_path
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS
from ga2clip.text import counted, printable
from ga2clip.video import find_videos

logger = logging.getLogger(__name__)


def read(source: Source) -> Listing:
    """`<class>/*` or `{train,val,test}/<class>/*`; a class may have folders inside."""
    root = source.root
    folders = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    split_of = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    has_splits = len(set(split_of.values())) > 1 and "train" in split_of.values()
    if split_of and not has_splits and len(split_of) == len(folders):
        raise UserError(
            f"{root} holds only {' and '.join(sorted(split_of))}: no class and no second split",
            "give train/ and test/, or the class folders directly: then test clips are drawn",
        )
    rows, loose = [], []
    for path in find_videos(root):
        name = relative_path(path, root)
        first, *inner = name.split("/")
        if has_splits and first in split_of and len(inner) >= 2:
            rows.append((name, inner[0], split_of[first]))
        elif not has_splits and inner:
            rows.append((name, first, ""))
        else:
            loose.append(name)
    if loose:
        logger.warning(
            "%s in no class folder, left out, such as %s", counted(len(loose), "video"), printable(loose[0])
        )
    inside = {} if source.group_pattern else _sub_folders(rows, 2 if has_splits else 1)
    notes = [f"clips of one sub-folder stay together: {len(set(inside.values()))} groups"] if inside else []
    return own_splits(
        [(*row, inside.get(row[0], "")) for row in rows],
        source.seed,
        source.dataset.readable,
        pattern=source.group_pattern,
        notes=notes,
    )


def _sub_folders(rows: Sequence[tuple[str, str, str]], depth: int) -> dict[str, str]:
    """Path → folder inside its class, for clips in one; empty if there is only one such folder, which says nothing.

    Folders of the same name in several classes are one group: a recording may show several classes.
    depth: folders above those.
    """
    inner = {path: path.split("/")[depth:-1] for path, _, _ in rows}
    groups = {path: "/".join(folders) for path, folders in inner.items() if folders}
    return groups if len(set(groups.values())) > 1 else {}


DATASETS.register("folder")(
    Dataset(
        name="folder",
        get_it="""The folder must hold one folder per class with its videos in it, either directly (<class>/clip.mp4:
a share of each class is set aside for testing) or below train/, val/, test/ (train/<class>/clip.mp4). Folders inside a
class are recordings, whose clips stay together.""",
        read=read,
    )
)
