"""The composite types of AMQP 1.0 as one table: performatives, terminuses, outcomes, SASL, message sections.

A composite is a described list (part 1, 1.4). The table gives the name, type and default of each field in
order; `!` marks a field that must be there.

>>> from twinship.simulator.amqp.types import decode
>>> begin = make("begin", next_outgoing_id=0, incoming_window=9, outgoing_window=9)
>>> composite(decode(begin.encode())).incoming_window
9
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from twinship.simulator.amqp.types import (
    Described,
    Malformed,
    Symbol,
    Timestamp,
    Ubyte,
    Uint,
    Ulong,
    Ushort,
    encode,
)

_TABLE: Final = {
    0x10: "open container_id:string! hostname:string max_frame_size:uint=4294967295 channel_max:ushort=65535 "
    "idle_time_out:uint outgoing_locales:any incoming_locales:any offered_capabilities:any "
    "desired_capabilities:any properties:map",
    0x11: "begin remote_channel:ushort next_outgoing_id:uint! incoming_window:uint! outgoing_window:uint! "
    "handle_max:uint=4294967295 offered_capabilities:any desired_capabilities:any properties:map",
    0x12: "attach name:string! handle:uint! role:boolean! snd_settle_mode:ubyte=2 rcv_settle_mode:ubyte=0 "
    "source:any target:any unsettled:map incomplete_unsettled:boolean initial_delivery_count:uint "
    "max_message_size:ulong offered_capabilities:any desired_capabilities:any properties:map",
    0x13: "flow next_incoming_id:uint incoming_window:uint! next_outgoing_id:uint! outgoing_window:uint! "
    "handle:uint delivery_count:uint link_credit:uint available:uint drain:boolean=0 echo:boolean=0 "
    "properties:map",
    0x14: "transfer handle:uint! delivery_id:uint delivery_tag:binary message_format:uint settled:boolean "
    "more:boolean=0 rcv_settle_mode:ubyte state:any resume:boolean=0 aborted:boolean=0 batchable:boolean=0",
    0x15: "disposition role:boolean! first:uint! last:uint settled:boolean=0 state:any batchable:boolean=0",
    0x16: "detach handle:uint! closed:boolean=0 error:any",
    0x17: "end error:any",
    0x18: "close error:any",
    0x1D: "error condition:symbol! description:string info:map",
    0x23: "received section_number:uint! section_offset:ulong!",
    0x24: "accepted",
    0x25: "rejected error:any",
    0x26: "released",
    0x27: "modified delivery_failed:boolean undeliverable_here:boolean message_annotations:map",
    0x28: "source address:any durable:uint expiry_policy:symbol timeout:uint dynamic:boolean "
    "dynamic_node_properties:map distribution_mode:symbol filter:map default_outcome:any outcomes:any "
    "capabilities:any",
    0x29: "target address:any durable:uint expiry_policy:symbol timeout:uint dynamic:boolean "
    "dynamic_node_properties:map capabilities:any",
    0x40: "sasl_mechanisms sasl_server_mechanisms:any!",
    0x41: "sasl_init mechanism:symbol! initial_response:binary hostname:string",
    0x42: "sasl_challenge challenge:binary!",
    0x43: "sasl_response response:binary!",
    0x44: "sasl_outcome code:ubyte! additional_data:binary",
    0x70: "header durable:boolean priority:ubyte ttl:uint first_acquirer:boolean delivery_count:uint",
    0x73: "properties message_id:any user_id:binary to:string subject:string reply_to:string "
    "correlation_id:any content_type:symbol content_encoding:symbol absolute_expiry_time:timestamp "
    "creation_time:timestamp group_id:string group_sequence:uint reply_to_group_id:string",
}


class _Type(NamedTuple):
    accepted: tuple[type, ...]
    wrap: Callable[[Any], Any]


_TYPES: Final[Mapping[str, _Type]] = {
    "any": _Type((object,), lambda value: value),
    "boolean": _Type((bool,), bool),
    "ubyte": _Type((Ubyte,), Ubyte),
    "ushort": _Type((Ushort,), Ushort),
    "uint": _Type((Uint,), Uint),
    "ulong": _Type((Ulong,), Ulong),
    "timestamp": _Type((Timestamp,), Timestamp),
    "string": _Type((str,), str),
    "symbol": _Type((str,), Symbol),  # az iot sends a string as the content type
    "binary": _Type((bytes,), bytes),
    "map": _Type((dict,), dict),
}


class _Field(NamedTuple):
    name: str
    type: _Type
    default: int | None
    required: bool


class _Form(NamedTuple):
    name: str
    code: int
    fields: tuple[_Field, ...]


def _form(code: int, text: str) -> _Form:
    name, *fields = text.split()
    return _Form(name, code, tuple(map(_field, fields)))


def _field(text: str) -> _Field:
    name, _, rest = text.partition(":")
    kind, _, default = rest.rstrip("!").partition("=")
    wrap = _TYPES[kind].wrap
    return _Field(name, _TYPES[kind], wrap(int(default)) if default else None, rest.endswith("!"))


_FORMS: Final = {code: _form(code, text) for code, text in _TABLE.items()}
_BY_NAME: Final = {form.name: form for form in _FORMS.values()}
_BY_SYMBOL: Final = {f"amqp:{form.name.replace('_', '-')}:list": form for form in _FORMS.values()}


@dataclass(frozen=True)
class Composite:
    """A composite with all its fields, None for those without a value. `kind` is its name in the table."""

    kind: str
    fields: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None

    def encode(self) -> bytes:
        """The bytes, with all fields: azure-eventhub reads them by index, also those without a value."""
        return encode(_described(self))


def make(kind: str, /, **fields: Any) -> Composite:
    """A composite to send."""
    return Composite(kind, fields)


def composite(value: Any) -> Any:
    """A decoded described list as a Composite, also inside its fields; another value as it is.

    Raises Malformed for a field that is missing, of another type, or not in the table.
    """
    if not isinstance(value, Described):
        return value
    descriptor = value.descriptor
    if not isinstance(descriptor, int | str):
        raise Malformed("a descriptor is neither a number nor a symbol")
    form = _BY_SYMBOL.get(descriptor) if isinstance(descriptor, str) else _FORMS.get(descriptor)
    if form is None:
        return value
    if not isinstance(value.value, list) or len(value.value) > len(form.fields):
        raise Malformed(f"{form.name}: not a list of at most {len(form.fields)} fields")
    given = value.value + [None] * (len(form.fields) - len(value.value))
    return Composite(
        form.name,
        {field.name: _read(form, field, each) for field, each in zip(form.fields, given, strict=True)},
    )


def _read(form: _Form, field: _Field, value: Any) -> Any:
    if value is None:
        if field.required:
            raise Malformed(f"{form.name}: {field.name} is missing")
        return field.default
    if not isinstance(value, field.type.accepted):
        raise Malformed(f"{form.name}: {field.name} has another type")
    return composite(value)


def _described(value: Composite) -> Described:
    form = _BY_NAME[value.kind]
    values = [_encodable(field, value.fields.get(field.name)) for field in form.fields]
    return Described(Ulong(form.code), values)


def _encodable(field: _Field, value: Any) -> Any:
    if isinstance(value, Composite):
        return _described(value)
    return None if value is None else field.type.wrap(value)
