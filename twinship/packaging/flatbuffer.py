"""Reads tables of a flatbuffer that may be damaged or hostile: every access is checked.

The format: https://flatbuffers.dev/internals. A table begins with the signed distance back to its vtable,
which has the offset of each field; a vector begins with its length. Offsets to other objects are unsigned.
No object is followed deeper than the caller asks, so a circle does no harm.
"""

from __future__ import annotations

import struct
from typing import Any, Final

MAX_ITEMS: Final = 1_000_000
"""Of one vector. The tables of a model are fewer; weights are not read."""
_FIRST_SLOT: Final = 4  # after the sizes of vtable and table


class BadFlatbuffer(ValueError):
    """An offset or a length leaves the file; one line."""


def root(data: bytes) -> Table:
    """Return the root table. Raises BadFlatbuffer."""
    return Table(data, _read(data, "<I", 0))


class Table:
    """One table. Every method raises BadFlatbuffer, and returns the default for a field that is absent."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        self._vtable = position - _read(data, "<i", position)
        self._size = _read(data, "<H", self._vtable)

    def number(self, field: int, code: str, default: int = 0) -> int:
        """Return the integer of a field; `code` is its struct format, as "I"."""
        at = self._at(field)
        return int(_read(self._data, f"<{code}", at)) if at else default

    def text(self, field: int) -> str:
        """Return the string of a field; bytes that are not UTF-8 become replacement characters."""
        return self.bytes(field).decode(errors="replace")

    def bytes(self, field: int) -> bytes:
        """Return the bytes of a string or of a vector of bytes."""
        start, count = self._vector(field, 1)
        return self._data[start : start + count]

    def numbers(self, field: int, code: str) -> tuple[Any, ...]:
        """Return the vector of numbers of a field; `code` is the struct format of one, as "f"."""
        size = struct.calcsize(f"<{code}")
        start, count = self._vector(field, size)
        return struct.unpack_from(f"<{count}{code}", self._data, start)

    def table(self, field: int) -> Table | None:
        """Return the table of a field."""
        at = self._at(field)
        return self._follow(at) if at else None

    def tables(self, field: int) -> list[Table]:
        """Return the vector of tables of a field."""
        start, count = self._vector(field, 4)
        return [self._follow(start + 4 * index) for index in range(count)]

    def _at(self, field: int) -> int:
        slot = _FIRST_SLOT + 2 * field
        if slot + 2 > self._size:
            return 0
        offset = _read(self._data, "<H", self._vtable + slot)
        return self._position + offset if offset else 0

    def _follow(self, at: int) -> Table:
        return Table(self._data, at + _read(self._data, "<I", at))

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """The position of the first item, and the number of items."""
        at = self._at(field)
        if not at:
            return 0, 0
        at += _read(self._data, "<I", at)
        count = _read(self._data, "<I", at)
        if at + 4 + count * size > len(self._data) or (count > MAX_ITEMS and size > 1):
            raise BadFlatbuffer(f"a vector of {count} items at byte {at} leaves the file")
        return at + 4, count


def _read(data: bytes, code: str, position: int) -> int:
    if position < 0 or position + struct.calcsize(code) > len(data):
        raise BadFlatbuffer(f"an offset to byte {position} leaves the file of {len(data)} bytes")
    return int(struct.unpack_from(code, data, position)[0])
