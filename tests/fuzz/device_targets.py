"""Targets of the modules: what a device reads from messages, twins and artefacts."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from tests.fuzz.target import SEPARATOR, Case, Promised, bag_of, check, json_of, parts, text_of

DECODE_BUDGET_MEGAPIXELS = 0.1  # a picture costs at most two milliseconds; the real budget has its own tests
MAX_INFLATED_BYTES = 1 << 20
MEMBERS = ("manifest.json", "labels.txt", "probes.json", "probes.bin")


def frame() -> tuple[Case, Promised]:
    """Properties, content type, body: a frame that is read and written again is the same."""
    from edgekit.frame.message import BadFrame, Flow, Frame, Message

    def case(data: bytes) -> None:
        bag, content_type, body = parts(data, 3)
        message = Message(body, bag_of(bag), content_type=text_of(content_type))
        if message.content_type == "application/json":
            flow = Flow.from_message(message)
            check(Flow.from_message(flow.to_message()) == flow, "a flow changes on its way")
            return
        read = Frame.from_message(message)
        check(Frame.from_message(read.to_message()) == read, "a frame changes on its way")

    return case, (BadFrame,)


def batch() -> tuple[Case, Promised]:
    """The body of a batch, or headers and pictures as parts: frames read and packed again are the same."""
    from edgekit.frame import batch
    from edgekit.frame.message import MAX_BODY_BYTES, BadFrame, Message

    def case(data: bytes) -> None:
        if SEPARATOR in data:
            data = b"".join(struct.pack(">I", len(part)) + part for part in data.split(SEPARATOR))
        frames = batch.frames_of(Message(data, {}, content_type=batch.CONTENT_TYPE))
        again = batch.to_message(frames, [batch.encode(each) for each in frames])
        if len(again.body) <= MAX_BODY_BYTES:
            check(batch.frames_of(again) == frames, "a batch changes on its way")

    return case, (BadFrame,)


def picture() -> tuple[Case, Promised]:
    """One byte of choices, then a file: decoded within a budget, with the declared shape.

    Bits 0 and 1: PNG, JPEG or raw. Bit 2: three channels. Bit 3: the declared size comes from the next
    two bytes and not from the file. Bit 4: the check sums of a PNG are made right, which no mutation does.
    """
    from edgekit.frame.message import RAW, BadFrame
    from inference.frames import preprocess
    from inference.frames.decode_cost import DecodeBudget

    kinds = ("image/png", "image/jpeg", RAW, "image/png")

    def case(data: bytes) -> None:
        choice, file = (data[0], data[1:]) if data else (0, b"")
        content_type, channels = kinds[choice & 3], 3 if choice & 4 else 1
        if choice & 8 or content_type == RAW:
            size, file = (file[:1] or b"\0", file[1:2] or b"\0"), file[2:]
            width, height = size[0][0], size[1][0]
        else:
            header = preprocess.HEADERS[content_type](file)
            width, height = header.width, header.height
        if choice & 16 and content_type == "image/png":
            file = with_check_sums(file)
        pixels = preprocess.decode(
            file, content_type, width, height, channels, DecodeBudget(DECODE_BUDGET_MEGAPIXELS)
        )
        check(pixels.shape == (height, width, channels), "another shape than declared")

    return case, (BadFrame,)


def with_check_sums(png: bytes) -> bytes:
    """The file with the right check sum in each chunk."""
    fixed, at = bytearray(png), 8
    while at + 12 <= len(fixed):
        end = at + 8 + struct.unpack_from(">I", fixed, at)[0]
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def artefact() -> tuple[Case, Promised]:
    """A whole artefact, or its four members, from which a right zip file is made."""
    from inference.artefact import BadArtefact, pack, read

    def case(data: bytes) -> None:
        found = data.count(SEPARATOR) == len(MEMBERS)
        artefact = read(_with_trailer(data) if found else data)
        manifest, labels, probes = artefact.manifest, artefact.labels, artefact.probes
        again = read(pack(artefact.tflite, manifest, labels, probes))
        check((again.labels, again.probes) == (labels, probes), "an artefact changes when it is packed again")

    return case, (BadArtefact,)


def _with_trailer(data: bytes) -> bytes:
    flatbuffer, *members = parts(data, 1 + len(MEMBERS))
    buffer = io.BytesIO()
    buffer.write(flatbuffer)
    with zipfile.ZipFile(buffer, "w") as trailer:
        for name, content in zip(MEMBERS, members, strict=True):
            trailer.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def section() -> tuple[Case, Promised]:
    """The desired section `model` as JSON; what it carries inline is inflated too."""
    from inference.model_section import Inline, InvalidSection, digest, parse

    def case(data: bytes) -> None:
        desired = json_of(data)
        digest(desired)  # also of a section that is refused: its verdict is stored under it
        section = parse(desired)
        if isinstance(section.source, Inline):
            size = min(section.ref.size, MAX_INFLATED_BYTES)
            check(len(section.source.inflate(size)) <= size + 1, "more bytes than declared")

    return case, (InvalidSection,)
