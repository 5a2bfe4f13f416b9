"""Sets TCP_NODELAY on the SDK's sockets, through attributes of the SDK that are not public."""

import contextlib
import logging
import socket
from typing import Any

from edgekit.log import one_line

logger = logging.getLogger(__name__)


def switch_off(client: Any) -> None:
    """Set TCP_NODELAY on each socket that this IoTHubModuleClient opens, after a reconnect too.

    Neither the SDK nor paho does. Nagle's algorithm together with delayed ACKs costs up to 40 ms a message.
    paho has a hook for new sockets, and one paho client serves all connections of one SDK client. If an SDK
    release moves the paho client, this logs a warning and messages are slower.
    """
    try:
        paho(client).on_socket_open = _no_delay
    except AttributeError as error:
        logger.warning("edgeHub: no TCP_NODELAY, messages may be 40 ms late: %s", one_line(error))


def paho(client: Any) -> Any:
    """The paho client: the last stage of the SDK's pipeline holds its transport."""
    stage = client._mqtt_pipeline._pipeline
    while stage.next is not None:
        stage = stage.next
    return stage.transport._mqtt_client


def _no_delay(_client: object, _userdata: object, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the connection may be gone already; paho notices that itself
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
