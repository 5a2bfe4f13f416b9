"""Decodes pictures and prepares them as model input: uint8 pixels of the size and channels of the model.

The device, offline prediction and training all use this code, so that a model sees the same pixels
everywhere. `engine.Engine` converts the pixels to the numbers of the input tensor.

>>> pixels = decode(bytes([0, 64, 128, 255]), RAW, width=2, height=2, channels=1)
>>> prepare(pixels, InputSpec(height=2, width=2, channels=3, invert=True))[0, 1].tolist()
[191, 191, 191]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from edgekit.frame.message import RAW, BadFrame
from inference.artefact import InputSpec, Resize
from inference.frames import fast_png
from inference.frames.decode_cost import (
    DecodeBudget,
    jpeg_header,
    jpeg_without_metadata,
    png_header,
    png_without_metadata,
)
from inference.runtimes import one_line

MAX_PIXELS: Final = 4096 * 4096
"""A body of 250 KB can declare a picture of many gigabytes; larger pictures are not decoded."""

# The decoders, not Image.open: only the declared decoder reads the bytes, and it is faster.
DECODERS: Final[dict[str, type[ImageFile]]] = {"image/png": PngImageFile, "image/jpeg": JpegImageFile}
HEADERS: Final = {"image/png": png_header, "image/jpeg": jpeg_header}
WITHOUT_METADATA: Final = {"image/png": png_without_metadata, "image/jpeg": jpeg_without_metadata}
FILE_DECODERS: Final[dict[bytes, type[ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
}
PADDING: Final = 114
"""The grey around a letterboxed picture: what YOLO models see in training."""
MODES: Final = {1: "L", 3: "RGB"}
SIXTEEN_BITS: Final = ("I;16", "I")  # "I" before Pillow 11
ORIENTATION: Final = 0x0112  # the EXIF tag
SIDEWAYS: Final = (5, 6, 7, 8)  # its values for pictures that are shown turned by 90 degrees
GREY_MODES: Final = ("1", "L", "LA", *SIXTEEN_BITS)


def decode(
    image: bytes,
    content_type: str,
    width: int,
    height: int,
    channels: int,
    budget: DecodeBudget | None = None,
    spec: InputSpec | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of a frame, uint8 of shape (height, width, channels); the array may be read-only.

    With the `spec` of a model, a JPEG has no more pixels than `prepare` needs for it (see `_reduce`). The
    budget of the message is spent before anything is decoded. Raises BadFrame with reason "channels" (neither
    1 nor 3), "size" (other than declared, or too large), "content_type" (not supported), "cost" (more than
    the budget) or "image" (not a valid picture of this content type).
    """
    if channels not in MODES:
        raise BadFrame("channels", f"{channels}, not 1 or 3")
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise BadFrame("size", f"{width}x{height}, at most {MAX_PIXELS} pixels")
    if content_type == RAW:
        return _raw(image, (height, width, channels))
    if content_type not in DECODERS:
        raise BadFrame("content_type", f"{content_type[:64]!r} is not supported")
    header = HEADERS[content_type](image)
    if (header.width, header.height) != (width, height):
        raise BadFrame("size", f"declared {width}x{height}, is {header.width}x{header.height}")
    if budget is not None:
        budget.spend(header.cost)
    if content_type == "image/png" and (fast := fast_png.pixels(image, width, height, MODES[channels])):
        return np.frombuffer(fast, np.uint8).reshape(height, width, channels)
    file = WITHOUT_METADATA[content_type](image) if header.has_metadata else image
    picture = _open(file, DECODERS[content_type])
    if picture.size != (width, height):  # Pillow reads another header than this module
        raise BadFrame("size", f"declared {width}x{height}, is {picture.width}x{picture.height}")
    _reduce(picture, spec)
    return _pixels(picture, channels)


def decode_file(data: bytes, spec: InputSpec | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a PNG, JPEG or BMP file, rotated as its EXIF data says; `spec` as in `decode`.

    The format comes from the first bytes, the size from the file. Raises BadFrame as `decode` does.
    """
    picture = _open_file(data)
    _reduce(picture, spec, turned=_is_turned(picture))
    picture = _upright(picture)
    return _pixels(picture, 1 if picture.mode in GREY_MODES else 3)


def file_size(data: bytes) -> tuple[int, int]:
    """Return height and width of a picture as `decode_file` shows it, from its header. Raises BadFrame."""
    picture = _open_file(data)
    return picture.size if _is_turned(picture) else (picture.height, picture.width)


def prepare(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Convert pixels to the model's input: grey or RGB, resized, inverted if declared; uint8 (H, W, C).

    Pixels that fit already are returned without a copy.
    """
    shape = (spec.height, spec.width, spec.channels)
    fitted = pixels if pixels.shape == shape else _fit(pixels, spec)
    if spec.order == "bgr":
        fitted = fitted[:, :, ::-1]
    return np.bitwise_not(fitted) if spec.invert else fitted  # for uint8: 255 - value


def region(spec: InputSpec, width: int, height: int) -> tuple[float, float, float, float]:
    """Return the part of a picture that the model sees: left, top, width, height in shares of the picture.

    A letterboxed input shows more than the picture, a cropped one less.

    >>> spec = InputSpec(height=100, width=100, channels=1, resize="letterbox")
    >>> region(spec, width=200, height=100)
    (0.0, -0.5, 1.0, 2.0)
    """
    if spec.resize == "stretch":
        return (0.0, 0.0, 1.0, 1.0)
    # Both counted in widths of the picture: the input's shape and the picture's.
    wide = (spec.width / spec.height) / (width / height)
    if (spec.resize == "crop") == (wide < 1):
        return ((1 - wide) / 2, 0.0, wide, 1.0)
    return (0.0, (1 - 1 / wide) / 2, 1.0, 1 / wide)


def _fit(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    # Convert the colour first: grey is then resized once and not three times. Pillow's bilinear filter is
    # wider when it shrinks a picture, so that it skips no pixel.
    picture = picture.convert(MODES[spec.channels])
    return _array(_RESIZES[spec.resize](picture, spec), spec.channels)


def _stretch(picture: Image.Image, spec: InputSpec) -> Image.Image:
    return picture.resize((spec.width, spec.height), Image.Resampling.BILINEAR)


def _crop(picture: Image.Image, spec: InputSpec) -> Image.Image:
    left, top, width, height = region(spec, *picture.size)
    right, bottom = min(1.0, left + width), min(1.0, top + height)  # rounding must not leave the picture
    box = (left * picture.width, top * picture.height, right * picture.width, bottom * picture.height)
    return picture.resize((spec.width, spec.height), Image.Resampling.BILINEAR, box=box)


def _letterbox(picture: Image.Image, spec: InputSpec) -> Image.Image:
    left, top, width, height = region(spec, *picture.size)
    size = (max(1, round(spec.width / width)), max(1, round(spec.height / height)))
    small = picture.resize(size, Image.Resampling.BILINEAR)
    padded = Image.new(picture.mode, (spec.width, spec.height), (PADDING,) * spec.channels)
    padded.paste(small, (round(-left / width * spec.width), round(-top / height * spec.height)))
    return padded


_RESIZES: Final[dict[Resize, Callable[[Image.Image, InputSpec], Image.Image]]] = {
    "stretch": _stretch,
    "crop": _crop,
    "letterbox": _letterbox,
}


def _raw(body: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    if len(body) != shape[0] * shape[1] * shape[2]:
        raise BadFrame("size", f"{len(body)} bytes are not {'x'.join(map(str, shape))}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _open(data: bytes, decoder: type[ImageFile]) -> Image.Image:
    """Read the header only; Pillow decodes the pixels later."""
    try:
        picture = decoder(BytesIO(data))
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and others
        raise BadFrame("image", one_line(error)) from error
    if picture.width * picture.height > MAX_PIXELS:
        raise BadFrame("size", f"{picture.width}x{picture.height}, at most {MAX_PIXELS} pixels")
    return picture


def _open_file(data: bytes) -> Image.Image:
    for signature, decoder in FILE_DECODERS.items():
        if data.startswith(signature):
            return _open(data, decoder)
    raise BadFrame("content_type", "neither PNG nor JPEG nor BMP")


def _reduce(picture: Image.Image, spec: InputSpec | None, *, turned: bool = False) -> None:
    """Let the JPEG decoder leave pixels out that the resizing to the model's input would leave out.

    The decoder halves both sides up to three times (Pillow's `draft`), but gives no fewer pixels than the
    model's input has. Decoding and resizing 640x480 for 224x224 then take half the time.
    """
    if spec is None or not isinstance(picture, JpegImageFile):
        return
    width, height = picture.size[::-1] if turned else picture.size
    _, _, seen_width, seen_height = region(spec, width, height)
    needed = math.ceil(spec.width / seen_width), math.ceil(spec.height / seen_height)
    picture.draft(None, needed[::-1] if turned else needed)


def _is_turned(picture: Image.Image) -> bool:
    try:
        return picture.getexif().get(ORIENTATION) in SIDEWAYS
    except Exception as error:  # damaged: as in _open
        raise BadFrame("image", one_line(error)) from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception as error:  # truncated or damaged: as in _open
        raise BadFrame("image", one_line(error)) from error


def _pixels(picture: Image.Image, channels: int) -> NDArray[np.uint8]:
    try:
        return _array(_with_channels(picture, channels), channels)
    except Exception as error:  # truncated or damaged: as in _open
        raise BadFrame("image", one_line(error)) from error


def _with_channels(picture: Image.Image, channels: int) -> Image.Image:
    if picture.mode == MODES[channels]:
        return picture
    if picture.mode in SIXTEEN_BITS:  # Pillow would clip the values instead of scaling them
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode == "P":  # without RGBA, Pillow warns about a palette with transparency
        picture = picture.convert("RGBA")
    return picture.convert(MODES[channels])


def _array(picture: Image.Image, channels: int) -> NDArray[np.uint8]:
    # tobytes: numpy's own conversion (__array_interface__) takes twice as long for a small picture.
    return np.frombuffer(picture.tobytes(), np.uint8).reshape(picture.height, picture.width, channels)
