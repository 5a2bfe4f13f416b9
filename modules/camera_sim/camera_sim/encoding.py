"""Encodes a picture as the body of a frame, within the size limit of a message."""

import io
from dataclasses import replace

from PIL import Image

from camera_sim.settings import Encoding
from camera_sim.sources.picture import Encoded, Picture
from edgekit.frame.message import MAX_BODY_BYTES, MAX_SIDE, RAW

_QUALITY = 90
_QUALITY_TO_FIT = 80


class CannotEncode(Exception):
    """The picture does not fit into a message in the requested encoding."""


def encode(picture: Picture, encoding: Encoding) -> Encoded:
    """Encode the picture. Raises CannotEncode.

    With `png` and `jpeg`, a picture that is too large becomes a JPEG and is halved until it fits. With `raw`
    and `as_is` the pixels never change: a picture that is too large raises CannotEncode. A picture of a
    video becomes a JPEG unless the encoding is `raw`: PNG would not bring back what the video has lost.
    A picture that its source keeps is encoded once, while there is room for its bytes.
    """
    if picture.damaged:
        whole = encode(replace(picture, damaged=False), encoding)
        return replace(whole, body=whole.body[: len(whole.body) // 2])
    if (known := picture.encodings.get(encoding)) is not None:
        return known
    encoded = _encode_to_fit(picture, encoding)
    if encoded.body is not picture.original and picture.reserve(len(encoded.body)):
        picture.encodings[encoding] = encoded
    return encoded


def _encode_to_fit(picture: Picture, encoding: Encoding) -> Encoded:
    if picture.lossy and encoding != "raw":
        encoding = "jpeg"
    lossy = encoding in ("png", "jpeg")
    if lossy and max(picture.image.size) > MAX_SIDE:  # Pillow's encoders raise at four times that
        return _fitted(picture.image, MAX_BODY_BYTES)
    encoded = _encode(picture, encoding)
    if _fits(encoded):
        return encoded
    if not lossy:
        raise CannotEncode(
            f"{picture.name}: {len(encoded.body)} bytes as {encoding}, at most {MAX_BODY_BYTES}; "
            "cure: encoding png or jpeg"
        )
    return _fitted(picture.image, MAX_BODY_BYTES)


def within(encoded: Encoded, max_bytes: int) -> Encoded:
    """The same picture in at most `max_bytes`: unchanged, or as a JPEG that is halved until it fits."""
    if _fits(encoded, max_bytes):
        return encoded
    if encoded.content_type == RAW:
        mode = "RGB" if encoded.channels == 3 else "L"
        return _fitted(Image.frombytes(mode, (encoded.width, encoded.height), encoded.body), max_bytes)
    with Image.open(io.BytesIO(encoded.body)) as image:
        return _fitted(image.convert("RGB" if encoded.channels == 3 else "L"), max_bytes)


def _fitted(image: Image.Image, max_bytes: int) -> Encoded:
    while max(image.size) > MAX_SIDE:
        image = _half(image)
    while not _fits(encoded := _compress(image, "JPEG", quality=_QUALITY_TO_FIT), max_bytes):
        image = _half(image)
    return encoded


def _half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BOX)


def _fits(encoded: Encoded, max_bytes: int = MAX_BODY_BYTES) -> bool:
    return len(encoded.body) <= max_bytes and max(encoded.width, encoded.height) <= MAX_SIDE


def _encode(picture: Picture, encoding: Encoding) -> Encoded:
    if encoding == "raw":
        return _encoded(picture.image, picture.image.tobytes(), RAW)
    wanted = picture.content_type if encoding == "as_is" else f"image/{encoding}"
    if wanted and wanted == picture.content_type and (picture.untouched or encoding == "as_is"):
        return _encoded(picture.image, picture.original, wanted)
    if encoding == "jpeg":
        return _compress(picture.image, "JPEG", quality=_QUALITY)
    # As it is, but drawn, or of a format that frames do not support: PNG does not change its pixels.
    return _compress(picture.image, "PNG", compress_level=1)


def _compress(image: Image.Image, form: str, **options: int) -> Encoded:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return _encoded(image, buffer.getvalue(), f"image/{form.lower()}")


def _encoded(image: Image.Image, body: bytes, content_type: str) -> Encoded:
    return Encoded(body, content_type, image.width, image.height, len(image.getbands()))
