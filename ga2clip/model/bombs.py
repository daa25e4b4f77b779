"""Detects malicious weights files that are small on disk but take gigabytes of memory when they are read."""

import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from ga2clip.errors import UserError

# Weights are usually stored uncompressed; this leaves a margin for files that were compressed afterwards.
_MOST_EXPANSION = 20
_FREE_BYTES = 64 << 20


def refuse_bomb(path: Path) -> None:
    """Check the sizes in the directory of a zip archive before anything is unpacked; other files pass.

    False sizes don't help an attacker, since readers stop when an entry is longer than its declared size.

    Raises:
        UserError: its entries say that they unpack to many times the size of the file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _refuse_size(path, sum(entry.file_size for entry in archive.infolist()))


def refuse_empty_claims(path: Path, content: Any) -> None:
    """Check tensors that claim more memory than they store, by a stride of 0 or by sharing one storage.

    Raises:
        UserError: as separate arrays they would take many times the size of the file.
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
