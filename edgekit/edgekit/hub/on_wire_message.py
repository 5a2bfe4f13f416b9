"""The SDK's message for one of ours; reading its id is the signal that it is on the wire.

The SDK writes messages from one thread, which reads the id of each message as it writes it. Nothing else
reads the id. Test doubles of the SDK must do the same.
"""

import uuid
from collections.abc import Callable

from azure.iot.device import Message as SdkMessage

from edgekit.frame.message import Message


class OnWireMessage(SdkMessage):
    """Calls `on_wire` each time the SDK reads the id. A message without an id gets a random one."""

    def __init__(self, message: Message, on_wire: Callable[[], None]) -> None:
        self._on_wire = on_wire
        super().__init__(  # type: ignore[no-untyped-call]
            message.body,
            content_encoding=message.content_encoding or None,
            content_type=message.content_type or None,
        )
        self._id = message.message_id or uuid.uuid4().hex
        self.custom_properties = dict(message.properties)

    @property
    def message_id(self) -> str:
        self._on_wire()
        return self._id

    @message_id.setter
    def message_id(self, _no_id: None) -> None:
        """The initialiser of the SDK's class assigns None."""


def from_sdk(sdk: SdkMessage) -> Message:
    """Our message for one that the SDK received."""
    return Message(
        body=sdk.data if isinstance(sdk.data, bytes) else str(sdk.data).encode(),
        properties={name: value or "" for name, value in sdk.custom_properties.items()},
        message_id=sdk.message_id or "",
        content_type=sdk.content_type or "",
        content_encoding=sdk.content_encoding or "",
    )
