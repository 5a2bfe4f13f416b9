"""The request-response nodes: put-token at `$cbs` and READ at `$management` (ref 6)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from twinship.simulator import sas
from twinship.simulator.amqp.access import Access
from twinship.simulator.amqp.event_receiver import partition_state
from twinship.simulator.amqp.links import AmqpError
from twinship.simulator.amqp.messages import Message, text
from twinship.simulator.amqp.performatives import make
from twinship.simulator.amqp.types import Array, Int, Malformed, Timestamp
from twinship.simulator.common.log_lines import printable
from twinship.simulator.iot_hub.event_log import EventLog

logger = logging.getLogger(__name__)

TOKEN_TYPE: Final = "servicebus.windows.net:sastoken"  # noqa: S105
_EVENT_HUB, _PARTITION = "com.microsoft:eventhub", "com.microsoft:partition"
Answer = tuple[int, str, Any]  # status, its description, body


def answer_to(request: Message, handle: Callable[[Message], Answer]) -> Message:
    """The response to a request, correlated by its message id. Raises AmqpError without one."""
    if (message_id := request.properties.message_id) is None:
        raise AmqpError("amqp:invalid-field", "a request without a message id")
    try:
        status, description, body = handle(request)
    except Malformed as error:
        status, description, body = 400, str(error), {}
    # both spellings: clients of `$cbs` and of `$management` read different ones
    codes = {name: Int(status) for name in ("status-code", "statusCode")}
    texts = dict.fromkeys(("status-description", "statusDescription"), description)
    return Message(make("properties", correlation_id=message_id), {**codes, **texts}, body, is_value=True)


def put_token(access: Access, request: Message, *, peer: str) -> Answer:
    """Check a token and add its right."""
    if _field(request, "operation") != "put-token":
        return 501, "the only operation here is put-token", {}
    if (kind := _field(request, "type")) != TOKEN_TYPE:
        return 501, f"tokens of type {TOKEN_TYPE} are supported, no others, Microsoft Entra ID neither", {}
    try:
        access.put_token(text(request.body))
    except (sas.SasRefused, ValueError) as refused:
        logger.warning("AMQP %s: token refused: %s", peer, printable(str(refused)))
        return 401, str(refused), {}
    logger.debug("AMQP %s: token of type %s accepted", peer, kind)
    return 200, "OK", {}  # Node's service SDK takes 202 for a refusal


def read_properties(log: EventLog, created_ms: int, request: Message) -> Answer:
    """The properties of the event hub or of one partition."""
    if _field(request, "operation") != "READ":
        return 501, "the only operation here is READ", {}
    kind, name = _field(request, "type"), _field(request, "name")
    if kind == _EVENT_HUB:
        partitions = [str(number) for number in range(log.partitions)]
        return 200, "OK", _hub(name, created_ms, partitions)
    if kind != _PARTITION:
        return 501, "the types here are com.microsoft:eventhub and com.microsoft:partition", {}
    number = _field(request, "partition")
    if not number.isdecimal() or len(number) > 4 or int(number) >= log.partitions:
        return 404, f"there are the partitions 0 to {log.partitions - 1}", {}
    bounds = log.bounds(int(number))
    return (
        200,
        "OK",
        {
            "name": name,
            "type": _PARTITION,
            "partition": str(int(number)),
            "begin_sequence_number": bounds.first,
            "is_partition_empty": bounds.is_empty,
            **partition_state(log, int(number)),
        },
    )


def _hub(name: str, created_ms: int, partitions: list[str]) -> Mapping[str, Any]:
    return {
        "name": name,
        "type": _EVENT_HUB,
        "created_at": Timestamp(created_ms),
        "partition_count": Int(len(partitions)),
        "partition_ids": Array(partitions),
    }


def _field(request: Message, name: str) -> str:
    value = request.application.get(name)
    return "" if value is None else text(value)
