"""Weights files that would fill memory: a few megabytes on disk, gigabytes once they are read."""

import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from ga2clip.errors import UserError

# Writers of weights store them as they are; this is room for those who compress them afterwards.
_MOST_EXPANSION = 20
_FREE_BYTES = 64 << 20


def refuse_bomb(path: Path) -> None:
    """Look at the directory of a zip archive, before anything is unpacked; other files pass.

    Readers stop where an entry gets longer than it said, so a lie there is no way around.

    Raises:
        UserError: its entries say that they unpack to many times the size of the file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _refuse_size(path, sum(entry.file_size for entry in archive.infolist()))


def refuse_empty_claims(path: Path, content: Any) -> None:
    """Look at the tensors of a nested content: a stride of 0, or one storage for many, claims memory for nothing.

    Raises:
        UserError: as arrays of their own they would take many times the size of the file.
    """
    waiting, seen, total = [content], set(), 0
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tensor):
            total += node.numel() * node.element_size()
        elif isinstance(node, dict | list | tuple | set) and id(node) not in seen:
            seen.add(id(node))
            waiting.extend(node.values() if isinstance(node, dict) else node)
    _refuse_size(path, total)


def _refuse_size(path: Path, size: int) -> None:
    on_disk = path.stat().st_size
    if size > _MOST_EXPANSION * on_disk + _FREE_BYTES:
        raise UserError(
            f"{path} has {on_disk / 1e6:,.1f} MB and unpacks to {size / 1e6:,.0f} MB; refused",
            "weights are stored without compression; such a file is damaged, or made to fill memory",
        )
