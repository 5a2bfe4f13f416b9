"""AMQP messages: the sections of a bare message and its annotations, to and from bytes (part 3, 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinship.simulator.amqp.performatives import Composite, composite
from twinship.simulator.amqp.types import Described, Malformed, Symbol, Ulong, decode_at, encode

_DELIVERY_ANNOTATIONS, _MESSAGE_ANNOTATIONS, _APPLICATION, _DATA, _VALUE = 0x71, 0x72, 0x74, 0x75, 0x77
MAX_SECTIONS: Final = 64


@dataclass(frozen=True)
class Message:
    """A message. `body` is bytes (data) or, with `is_value`, any AMQP value."""

    properties: Composite = field(default_factory=lambda: Composite("properties", {}))
    application: Mapping[str, Any] = field(default_factory=dict)
    body: Any = b""
    is_value: bool = False
    annotations: Mapping[str, Any] = field(default_factory=dict)
    delivery_annotations: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The bytes of the message; empty sections are left out."""
        sections = [
            _section(code, {Symbol(name): value for name, value in annotations.items()})
            for code, annotations in (
                (_DELIVERY_ANNOTATIONS, self.delivery_annotations),
                (_MESSAGE_ANNOTATIONS, self.annotations),
            )
            if annotations
        ]
        if self.properties.fields:
            sections.append(self.properties.encode())
        if self.application:
            sections.append(_section(_APPLICATION, dict(self.application)))
        sections.append(_section(_VALUE if self.is_value else _DATA, self.body))
        return b"".join(sections)


def decode_message(data: bytes) -> Message:
    """Read a message; annotations of the sender are not read. Raises Malformed."""
    found: dict[int, Any] = {}
    properties, at, body = _NO_PROPERTIES, 0, bytearray()
    for _ in range(MAX_SECTIONS):
        if at >= len(data):
            break
        section, at = decode_at(data, at)
        if isinstance(part := composite(section), Composite):
            properties = part if part.kind == "properties" else properties
        elif isinstance(section, Described) and isinstance(section.descriptor, int):
            found[section.descriptor] = section.value
            if section.descriptor == _DATA:
                body += _expect(section.value, bytes)
        else:
            raise Malformed("a message with a section that is none")
    else:
        raise Malformed(f"a message with more than {MAX_SECTIONS} sections")
    is_value = _VALUE in found
    application = _expect(found.get(_APPLICATION) or {}, dict)
    return Message(
        properties,
        {text(name): value for name, value in application.items()},
        found[_VALUE] if is_value else bytes(body),
        is_value,
    )


_NO_PROPERTIES: Final = composite(Described(Ulong(0x73), []))


def text(value: Any) -> str:
    """Text that a client may have sent as binary; raises Malformed for other values."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("binary that is not UTF-8 in the place of a string") from None
    if not isinstance(value, str):
        raise Malformed("another type in the place of a string")
    return str(value)


def _section(code: int, value: Any) -> bytes:
    return b"\x00\x53" + bytes((code,)) + encode(value)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Malformed("a section of a message has another type")
    return value
