"""The PNG that cameras send, read in a third of the time: 8 bits, grey or RGB, nothing but picture in it.

Pillow's reader of PNG files costs more than the picture for small frames, so the chunks are walked here and
Pillow's decoder gets the pixels alone. Says nothing of what is wrong: whatever is not plain and whole is
None, and Pillow's own reader (`preprocess`) decides about it.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from PIL import Image

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = struct.Struct(">II5B")  # width, height, bits, colour type, compression, filter, interlace
_CHUNK: Final = struct.Struct(">I4s")
_CRC: Final = struct.Struct(">I")
_PLAIN: Final = {"L": (8, 0, 0, 0, 0), "RGB": (8, 2, 0, 0, 0)}  # mode → the last five of the header


def pixels(data: bytes, width: int, height: int, mode: str) -> bytes | None:
    """The picture's bytes, row by row, if it is plain and of this size and mode (L or RGB); else None."""
    if not data.startswith(SIGNATURE) or (chunks := _chunks(data)) is None:
        return None
    header, *parts = chunks
    if header != _HEADER.pack(width, height, *_PLAIN[mode]):
        return None
    try:
        return Image.frombytes(mode, (width, height), b"".join(parts), "zip", mode, 0).tobytes()
    except ValueError:  # too little, or no deflate stream
        return None


def _chunks(data: bytes) -> list[bytes] | None:
    """The contents of IHDR and of each IDAT; None where there is another chunk, or one is damaged."""
    found: list[bytes] = []
    position, wanted = len(SIGNATURE), b"IHDR"
    while position + 12 <= len(data):
        length, kind = _CHUNK.unpack_from(data, position)
        if kind == b"IEND" and len(found) > 1:
            return found
        end = position + 8 + length
        if kind != wanted or end + 4 > len(data):
            return None
        if zlib.crc32(data[position + 4 : end]) != _CRC.unpack_from(data, end)[0]:
            return None
        found.append(data[position + 8 : end])
        position, wanted = end + 4, b"IDAT"
    return None
