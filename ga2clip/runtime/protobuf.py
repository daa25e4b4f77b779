"""A strict protobuf reader over a memory-mapped file, with a limit on its work.

Strict, because an attacker can use differences between two parsers. These are errors: a field that the caller doesn't
list, a repeated field where protobuf would merge or overwrite, another wire type than the schema's, and keys above
32 bits (which some parsers truncate).
"""

import mmap
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_LARGEST_KEY = 2**32 - 1
_MOST_FIELDS = 1_000_000
"""A bundle of a large CLIP has some ten thousand; reading the most takes two seconds."""


class MalformedError(Exception):
    """The bytes are not a valid message of the expected kind. The message says why."""


class Message:
    """A message or another length-delimited field: a span of the mapped file."""

    __slots__ = ("_content", "_end", "_left", "_start")

    def __init__(
        self, content: mmap.mmap, start: int = 0, end: int | None = None, left: list[int] | None = None
    ):
        self._content, self._start, self._end = content, start, len(content) if end is None else end
        self._left = [_MOST_FIELDS] if left is None else left  # shared by all messages of a file

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._end - self._start

    def bytes(self) -> bytes:
        """The bytes themselves."""
        return self._content[self._start : self._end]

    def text(self) -> str:
        """The bytes as UTF-8."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError:
            raise MalformedError("a name is not UTF-8") from None

    def fields(
        self, what: str, wires: Mapping[int, int | None], repeated: Collection[int] = ()
    ) -> Iterator[tuple[int, Any]]:
        """(number, value) of each field: an int for wire type 0, a Message for types 1, 2 and 5.

        Args:
            what: the message's name for errors.
            wires: allowed field number → its wire type; None: repeated numbers, packed or not.
            repeated: field numbers that may occur more than once.

        Raises:
            MalformedError: another field, or the bytes end too early.
        """
        content, end = self._content, self._end
        position, seen = self._start, set()
        while position < end:
            # Nearly all keys and lengths are one byte, and a graph has ten thousands of them.
            if (key := content[position]) < 0x80:
                position += 1
            else:
                key, position = self._varint(position)
            number, wire = key >> 3, key & 7
            if key > _LARGEST_KEY:
                raise MalformedError(f"a field number is too large at byte {position}")
            if number not in wires or (wires[number] is not None and wires[number] != wire):
                raise MalformedError(f"a {what} with field {number} of type {wire} is not read")
            if number in seen and number not in repeated:
                raise MalformedError(f"field {number} of a {what} occurs twice")
            seen.add(number)
            self._left[0] -= 1
            if self._left[0] < 0:
                raise MalformedError("it consists of too many parts")
            if wire == 0:
                value, position = self._varint(position)
                yield number, value
                continue
            length = {1: 8, 5: 4}.get(wire)
            if wire == 2:
                if position < end and content[position] < 0x80:
                    length, position = content[position], position + 1
                else:
                    length, position = self._varint(position)
            if length is None:
                raise MalformedError(f"unknown field at byte {position}")
            if position + length > end:
                raise MalformedError("it ends too early")
            yield number, Message(content, position, position + length, self._left)
            position += length

    def varints(self) -> Iterator[int]:
        """The numbers packed into this field."""
        position = self._start
        while position < self._end:
            value, position = self._varint(position)
            self._left[0] -= 1
            if self._left[0] < 0:
                raise MalformedError("it consists of too many parts")
            yield value

    def _varint(self, position: int) -> tuple[int, int]:
        result = 0
        for shift in range(0, 70, 7):
            if position >= self._end:
                raise MalformedError("it ends too early")
            byte = self._content[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, position
        raise MalformedError("a number is too long")


def numbers(value: Message | int) -> Iterator[int]:
    """The numbers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
    else:
        yield from value.varints()
