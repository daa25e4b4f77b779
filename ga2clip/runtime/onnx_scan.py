"""The path of an ONNX file goes in; the names of the files outside it that it wants to read come out,
without the `onnx` package.

An ONNX model may keep weights in other files, named by paths inside the model. A hostile bundle could name
any file of the machine there, so the runtime walks the protobuf and looks for such references before ONNX
Runtime sees the file. Only the messages that can hold a tensor are entered (onnx.proto3 gives the field
numbers); everything else is skipped by its length.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from ga2clip.errors import UserError

# For each message: field number → message it holds.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {},
}
_EXTERNAL_DATA = 13
_DATA_LOCATION = 14
_DEEPEST = 32
_LARGEST_KEY = 2**32 - 1
"""Parsers that count in 32 bits drop what is above, so that a larger key would be another field to them."""


def external_files(path: Path) -> set[str]:
    """Every `location` of external tensor data in the model. Errors: UserError when the file is not a whole
    protobuf message or uses external data without naming a location.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file can't be mapped
            raise UserError(f"{path} is empty", "export the bundle again") from None
        with content:
            try:
                return set(_walk(content, (0, len(content)), "Model", 0))
            except (_MalformedError, UnicodeDecodeError) as error:
                raise UserError(
                    f"{path} is not a valid ONNX file: {error}", "export the bundle again"
                ) from None


class _MalformedError(Exception):
    pass


_Span = tuple[int, int]  # first byte and the one behind the last


def _walk(content: mmap.mmap, message: _Span, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise _MalformedError("nested too deeply")
    external = False
    locations: list[str] = []
    for number, value in _fields(content, message):
        child = _CHILDREN[kind].get(number)
        if kind == "Tensor" and number == _DATA_LOCATION:
            external = value == 1
        if child is None or isinstance(value, int):
            continue
        if child == "Entry":
            locations += _location(content, value)
        else:
            yield from _walk(content, value, child, depth + 1)
    if external and not locations:
        raise _MalformedError("a tensor has external data and no location")
    yield from locations


def _location(content: mmap.mmap, entry: _Span) -> list[str]:
    """The value of a StringStringEntryProto whose key is `location`, as a list of one or none."""
    fields = _fields(content, entry)
    parts = {number: content[span[0] : span[1]] for number, span in fields if not isinstance(span, int)}
    return [parts.get(2, b"").decode()] if parts.get(1) == b"location" else []


def _fields(content: mmap.mmap, message: _Span) -> Iterator[tuple[int, int | _Span]]:
    """(field number, value) of each field: an int for varints, the span of the bytes for everything else."""
    position, end = message
    while position < end:
        key, position = _varint(content, position, end)
        number, wire = key >> 3, key & 7
        if key > _LARGEST_KEY:
            raise _MalformedError(f"a field number is too large at byte {position}")
        if wire == 0:
            value, position = _varint(content, position, end)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, position = _varint(content, position, end)
        if length is None or number == 0:
            raise _MalformedError(f"unknown field at byte {position}")
        if position + length > end:
            raise _MalformedError("it ends too early")
        yield number, (position, position + length)
        position += length


def _varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _MalformedError("it ends too early")
        byte = content[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise _MalformedError("a number is too long")
