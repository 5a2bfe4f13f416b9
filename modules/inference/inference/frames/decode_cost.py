"""The cost of decoding a picture, computed from its file before it is decoded, and the budget of a message.

The unit is one pixel of a baseline JPEG: decoding it, converting its colours and resizing it. A file of
250 KB can cost a minute: a progressive JPEG may have thousands of scans, and each scan visits all pixels. The
factors are measured (Pillow 13; up to 20 ns for a pixel of a baseline JPEG):

| file | ns per pixel | factor |
|---|---|---|
| JPEG, baseline | 20 | 1 |
| JPEG, progressive, 10 scans (as encoders write) | 31 to 43 | 1 |
| JPEG, each further scan | 1 | 1/16 |
| PNG, grey, RGB or palette, 8 bits, with or without transparency, interlaced or not | 17 to 38 | 1 |
| PNG, RGBA of 8 bits, 32 bits a pixel | 46 | 1 |
| PNG, RGB of 16 bits, 48 bits a pixel | 50 | 1.5 |
| PNG, RGBA of 16 bits, 64 bits a pixel | 77 | 2 |
| raw pixels: nothing to decode, at most 258,048 bytes | 0 | 0 |

Pillow gets a file without its metadata: only the chunks and segments that the pixels depend on. The limits of
Pillow allow 64 MB of compressed text or hundreds of colour profiles in a picture of 16 pixels.

>>> budget = DecodeBudget(megapixels=16.8)
>>> budget.spend(4096 * 4096)
>>> budget.spend(640 * 480)
Traceback (most recent call last):
    ...
edgekit.frame.message.BadFrame: cost: 0.3 megapixels, 0.0 of decodeBudgetMegapixels are left
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgekit.frame.message import BadFrame
from inference.frames.fast_png import SIGNATURE

SCANS_OF_ENCODERS: Final = 10  # libjpeg's progressive script for colour; 6 for grey
FURTHER_SCANS: Final = 16  # so many cost as much as decoding all pixels once

_IHDR: Final = struct.Struct(">I4sII2B")  # length, kind, width, height, bits, colour type
_AFTER_IHDR: Final = len(SIGNATURE) + 25
_CHUNK: Final = struct.Struct(">I4s")
_PNG_KEPT: Final = frozenset({b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type

_MARKER: Final = re.compile(rb"(?:\xff\x00)*\xff+([\x01-\xfe])")  # after padding, as Pillow reads it
_SOF: Final = struct.Struct(">HH")  # height, width
_SOI: Final = b"\xff\xd8"
_SOS: Final = b"\xff\xda"
_FIRST_SCAN: Final = 0xDA
_HUFFMAN: Final = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended sequential, progressive
_OTHER_SOF: Final = frozenset(range(0xC0, 0xD0)) - _HUFFMAN - {0xC4, 0xC8, 0xCC}  # arithmetic, lossless …
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST0 to RST7, SOI
_METADATA: Final = frozenset({*range(0xE1, 0xF0), 0xFE}) - {0xEE}  # JFIF (E0), Adobe (EE): colours


class DecodeBudget:
    """What the frames of one message may cost together."""

    def __init__(self, megapixels: float) -> None:
        self._left = megapixels * 1e6

    def spend(self, cost: float) -> None:
        """Raise BadFrame("cost") if so much is not left; a picture that is refused spends nothing."""
        if cost > self._left:
            raise BadFrame(
                "cost",
                f"{cost / 1e6:.1f} megapixels, {self._left / 1e6:.1f} of decodeBudgetMegapixels are left",
            )
        self._left -= cost


@dataclass(slots=True)
class PictureHeader:
    """What a file declares, and what it costs to decode, in pixels of a baseline JPEG."""

    width: int
    height: int
    cost: float
    has_metadata: bool = True  # False: the file is surely as small as it can be


def png_header(data: bytes) -> PictureHeader:
    """Read the header of a PNG. Raises BadFrame("image") unless the file begins with one."""
    if not data.startswith(SIGNATURE) or len(data) < _AFTER_IHDR:
        raise BadFrame("image", "not a PNG file")
    length, kind, width, height, bits, colours = _IHDR.unpack_from(data, len(SIGNATURE))
    if (length, kind) != (13, b"IHDR") or colours not in _PNG_CHANNELS:
        raise BadFrame("image", "not a PNG file: its header is invalid")
    bits_of_a_pixel = bits * _PNG_CHANNELS[colours]
    return PictureHeader(width, height, width * height * max(1.0, bits_of_a_pixel / 32))


def png_without_metadata(data: bytes) -> bytes:
    """Return a PNG, whose header is valid, with only the chunks that its pixels depend on."""
    position = _AFTER_IHDR
    kept = [data[:position]]
    while position + _CHUNK.size <= len(data):
        length, kind = _CHUNK.unpack_from(data, position)
        end = position + 12 + length
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
        if kind == b"IEND":
            break
        position = end
    return b"".join(kept)


def jpeg_header(data: bytes) -> PictureHeader:
    """Read a JPEG up to its first scan, and count its scans. Raises BadFrame("image") if it is damaged.

    The pair FF DA begins a scan and stands nowhere in compressed data, so the number of these pairs is the
    highest number of scans that any decoder can find.
    """
    size: tuple[int, int] | None = None
    has_metadata = False
    for marker, start, end in _segments(data):
        if marker in _OTHER_SOF:
            raise BadFrame("image", f"JPEG coding {marker:X}: use baseline or progressive with Huffman codes")
        if marker in _HUFFMAN:
            if size is not None or end - start < 10:
                raise BadFrame("image", "a JPEG file whose frame header is damaged or there twice")
            height, width = _SOF.unpack_from(data, start + 5)
            size = width, height
        if marker == _FIRST_SCAN and size is not None:
            further = max(0, data.count(_SOS, start) - SCANS_OF_ENCODERS) / FURTHER_SCANS
            return PictureHeader(*size, size[0] * size[1] * (1 + further), has_metadata)
        has_metadata |= marker in _METADATA
    raise BadFrame("image", "a JPEG file without a picture")


def jpeg_without_metadata(data: bytes) -> bytes:
    """Return a JPEG, whose header is valid, with only the segments that its pixels depend on."""
    kept = [_SOI]
    for marker, start, end in _segments(data):
        if marker == _FIRST_SCAN:
            kept.append(data[start:])
            break
        if marker not in _METADATA:
            kept.append(data[start:end])
    return b"".join(kept)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment; nothing after damage."""
    if not data.startswith(_SOI):
        raise BadFrame("image", "not a JPEG file")
    position = len(_SOI)
    while found := _MARKER.match(data, position):
        marker, start = found[1][0], found.start(1) - 1
        position = start + 2
        if marker not in _BARE:
            length = int.from_bytes(data[position : position + 2], "big")
            if length < 2 or position + length > len(data):
                return
            yield marker, start, position + length
            position += length
