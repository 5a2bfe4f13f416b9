"""Makes the pictures of the corpus: a byte of choices, as the target `picture` reads it, then the file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image


def pictures() -> dict[str, bytes]:
    """Small pictures of each kind that cameras and editors write."""
    return {
        "grey": b"\x10" + _png(0, b"\0\1\2\0\3\4", 2, 2),
        "rgb": b"\x14" + _png(2, b"\0" + bytes(6) + b"\1" + bytes(6), 2, 2),
        "rgba": b"\x14" + _png(6, b"\0" + bytes(8) + b"\2" + bytes(8), 2, 2),
        "palette": b"\x14" + _png(3, b"\0\0\1\0\1\0", 2, 2, [(b"PLTE", bytes(6)), (b"tRNS", b"\0\x80")]),
        "sixteen": b"\x10" + _png(0, b"\0\1\2\3\4", 2, 1, bits=16),
        "one-bit": b"\x10" + _png(0, b"\0\x80\4\x40", 2, 2, bits=1),
        "metadata": b"\x10" + _png(0, b"\0\1\2\0\3\4", 2, 2, [(b"tEXt", b"a\0b"), (b"gAMA", bytes(4))]),
        "two-idat": b"\x10" + _png(0, b"\0\1\2\0\3\4", 2, 2, [(b"IDAT", b"")]),
        "baseline": b"\x01" + _jpeg("L"),
        "progressive": b"\x05" + _jpeg("RGB", progressive=True),
        "comment": b"\x05" + _jpeg("RGB", comment=b"a comment"),
        "declared": b"\x09\x08\x08" + _jpeg("L"),
        "raw": b"\x06\x02\x02" + bytes(12),
    }


def _png(
    colours: int,
    pixels: bytes,
    width: int,
    height: int,
    more: list[tuple[bytes, bytes]] | None = None,
    bits: int = 8,
) -> bytes:
    header = struct.pack(">II5B", width, height, bits, colours, 0, 0, 0)
    chunks = [(b"IHDR", header), *(more or []), (b"IDAT", zlib.compress(pixels, 0)), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _jpeg(mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).convert(mode).save(
        buffer, "JPEG", quality=20, optimize=True, **options
    )
    return buffer.getvalue()
