"""The fast PNG reader gives the same pixels as Pillow, or None."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from edgekit.frame.message import BadFrame
from inference.frames import fast_png
from inference.frames.preprocess import decode

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
CHANNELS = {"L": 1, "RGB": 3}


def picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """A ramp with noise: a PNG writer uses all its filters on it."""
    shape = (height, width, CHANNELS[mode])
    noise = np.random.default_rng(seed).integers(0, 9, shape, np.uint8)
    ramp: NDArray[np.uint8] = (np.arange(width, dtype=np.uint8)[None, :, None] * 3 + noise).astype(np.uint8)
    return Image.fromarray(ramp[:, :, 0] if mode == "L" else ramp)


def png(image: Image.Image, **options: object) -> bytes:
    """The picture as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@given(st.sampled_from(["L", "RGB"]), SHAPES, st.integers(0, 1_000))
def test_a_simple_picture_has_the_pixels_that_pillow_reads(
    mode: str, size: tuple[int, int], seed: int
) -> None:
    """The reader does not change the prediction."""
    image = picture(mode, *size, seed)
    assert fast_png.pixels(png(image), *size, mode) == image.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        png(Image.new("P", (5, 4))),
        png(Image.new("LA", (5, 4))),
        png(Image.new("RGB", (5, 4))),
        png(Image.new("L", (4, 5))),
        png(Image.new("L", (5, 4)), pnginfo=PngInfo(), dpi=(72, 72)),
        png(Image.new("L", (5, 4)), transparency=3),
        png(Image.new("1", (5, 4))),
    ],
)
def test_every_other_file_is_left_to_pillow(data: bytes) -> None:
    """Palettes, alpha, other sizes and other chunks are not supported: the result is None."""
    assert fast_png.pixels(data, 5, 4, "L") is None


@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 3))
def test_a_damaged_file_is_never_read(place: int, value: int, cut: int) -> None:
    """A changed byte in a chunk or a missing end gives None, because the CRC does not match."""
    whole = png(picture("L", 9, 7, 1))
    damaged = bytearray(whole[: len(whole) - 13 * cut])
    damaged[place % len(damaged)] ^= value
    read = fast_png.pixels(bytes(damaged), 9, 7, "L")
    assert read in (None, picture("L", 9, 7, 1).tobytes())
    assert cut == 0 or read is None


def test_a_picture_with_too_few_pixels_is_a_bad_frame() -> None:
    """Pillow reads it instead, and the reason of BadFrame is `size`."""
    short = fast_png.SIGNATURE + png(Image.new("L", (9, 1)))[8:]
    with pytest.raises(BadFrame, match="size"):
        decode(short, "image/png", 9, 7, 1)
