"""Reads an untrusted .npz file whose array names, dtypes and shapes are known beforehand.

`numpy.load` allocates whatever the headers claim. Here the archive may be only as large as the expected arrays, its
members must be stored uncompressed, and each header is checked before its array is read. Pickled objects are never
read.
"""

import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

_ROOM = 2**20  # bytes for headers and the archive's directory

NPZ_ERRORS = (
    *(ValueError, OSError, EOFError, KeyError, IndexError, MemoryError, OverflowError, RecursionError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, TypeError),
    *(zlib.error, lzma.LZMAError, struct.error, SyntaxError),
)
"""What damaged archives raise inside `zipfile` and NumPy."""

_HEADER = re.compile(
    rb"\{'descr': '([<|][a-zA-Z]\d{1,6})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,9}, )*)(?:(\d{1,9}),?)?\), \} *\n"
)
"""The header that NumPy writes. Its own reader evaluates it as Python, which damaged ones make warn or fail."""


@dataclass(frozen=True)
class Expected:
    """The shape and dtype that an array must have; a `range` in the shape allows several lengths."""

    shape: tuple[int | range, ...]
    dtype: str

    @property
    def most_bytes(self) -> int:
        """Bytes of the largest such array."""
        sides = (side[-1] if isinstance(side, range) else side for side in self.shape)
        return math.prod(sides) * np.dtype(self.dtype).itemsize

    def fits(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Whether an array is as expected. (A string array may have narrower items.)"""
        wanted = np.dtype(self.dtype)
        sides = zip(shape, self.shape, strict=False)
        return (
            len(shape) == len(self.shape)
            and all(side in want if isinstance(want, range) else side == want for side, want in sides)
            and (dtype == wanted or (dtype.kind == wanted.kind == "U" and dtype.itemsize <= wanted.itemsize))
        )

    def __str__(self) -> str:
        sides = (f"{s[0]} to {s[-1]}" if isinstance(s, range) else str(s) for s in self.shape)
        return f"{np.dtype(self.dtype)} ({', '.join(sides)})"


def read_npz(path: Path, expected: Mapping[str, Expected]) -> dict[str, np.ndarray]:
    """The expected arrays of an archive, by name.

    Raises:
        ValueError: an array is missing, compressed, or of another dtype or shape; or the archive is larger than all
            expected arrays. A damaged archive raises any of `NPZ_ERRORS`.
    """
    most = _ROOM + sum(entry.most_bytes for entry in expected.values())
    if path.stat().st_size > most:
        raise ValueError(f"it is larger than its arrays allow ({most:,} bytes)")
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        arrays = {}
        for name, entry in expected.items():
            member = members.get(f"{name}.npy")
            if member is None:
                raise ValueError(f"it has no array '{name}', which should be {entry}")
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"'{name}' is compressed")
            with archive.open(member) as file:
                arrays[name] = _array(file, name, entry)
    return arrays


def _array(file: IO[bytes], name: str, entry: Expected) -> np.ndarray:
    shape, columns_first, dtype = _header(file, name)
    if not entry.fits(shape, dtype):
        raise ValueError(f"'{name}' should be {entry}, but is {dtype} {shape}"[:300])
    wanted = math.prod(shape) * dtype.itemsize
    content = file.read(wanted + 1)
    if len(content) != wanted:
        raise ValueError(f"'{name}' does not have {wanted} bytes")
    flat = np.frombuffer(content, dtype).copy()
    return flat.reshape(shape, order="F" if columns_first else "C")


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and dtype. Raises ValueError or TypeError for another header than NumPy's."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"'{name}' is of the format {version}")
    header = _HEADER.fullmatch(file.read(int.from_bytes(file.read(2), "little")))
    if not header:
        raise ValueError(f"'{name}' has no header as NumPy writes it")
    sides = (*header[3].split(b", ")[:-1], *([header[4]] if header[4] else ()))
    return tuple(map(int, sides)), header[2] == b"True", np.dtype(header[1].decode())
