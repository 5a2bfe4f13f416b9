"""Picture files that cost much more to decode than their size suggests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(
    side: int,
    bits: int = 8,
    colours: int = 0,
    *,
    line_filter: int = 0,
    interlaced: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A square PNG of zeros; `before` and `after` are chunks around its pixels."""
    width = _CHANNELS[colours] * bits
    rows = [(side, side)]
    if interlaced:
        rows = [(-(-(side - x) // dx), -(-(side - y) // dy)) for x, y, dx, dy in _PASSES]
    pixels = b"".join((bytes([line_filter]) + bytes((w * width + 7) // 8)) * h for w, h in rows)
    header = struct.pack(">II5B", side, side, bits, colours, 0, 0, int(interlaced))
    palette = chunk(b"PLTE", bytes(3 << min(bits, 8))) if colours == 3 else b""
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            palette,
            before,
            chunk(b"IDAT", zlib.compress(pixels, 9)),
            after,
            chunk(b"IEND", b""),
        )
    )


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def scan(components: Sequence[int], first: int, last: int, high: int = 0, low: int = 0) -> bytes:
    """The header of one scan: coefficients `first` to `last`, bits `high` to `low`."""
    named = b"".join(bytes([each, 0]) for each in components)
    return segment(0xDA, bytes([len(components)]) + named + bytes([first, last, high << 4 | low]))


def flat_jpeg(side: int, scans: Sequence[bytes], *, coding: int = 0xC2, components: int = 1) -> bytes:
    """A square JPEG with these scans; its Huffman codes are one bit each."""
    named = b"".join(bytes([each + 1, 0x11, 0]) for each in range(components))
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0" + bytes([1] * 64)),
            segment(coding, struct.pack(">BHHB", 8, side, side, components) + named),
            segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0"),
            segment(0xC4, b"\x10" + bytes([1, 1] + [0] * 14) + b"\xe0\x01"),
            *scans,
            b"\xff\xd9",
        )
    )


def many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG that visits each coefficient `count` times and changes none."""
    blocks = (side // 8) ** 2
    runs = ("0" + "1" * 14) * (blocks // 32_767 + 1)
    runs += "1" * (-len(runs) % 8)
    data = int(runs, 2).to_bytes(len(runs) // 8, "big").replace(b"\xff", b"\xff\0")
    refined = (scan([1], 1, 63, 13 - each % 13, 12 - each % 13) + data for each in range(count))
    return flat_jpeg(side, [scan([1], 0, 0) + bytes(blocks // 8), scan([1], 1, 63, 0, 13) + data, *refined])
