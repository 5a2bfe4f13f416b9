"""TCP_NODELAY on the SDK's sockets, across reconnects; the one place that reaches into the SDK's insides."""

import contextlib
import logging
import socket
from typing import Any

from edgekit.log import one_line

logger = logging.getLogger(__name__)


def switch_off(client: Any) -> None:
    """Set TCP_NODELAY on each socket that this IoTHubModuleClient will open.

    Neither the SDK nor paho does, and Nagle's algorithm against delayed ACKs costs up to 40 ms a message.
    paho has a hook for a new socket, and one paho client serves all connections of one SDK client. The way to
    it is not public: a release that moves it costs speed and a log line, not the module.
    """
    try:
        paho(client).on_socket_open = _no_delay
    except AttributeError as error:
        logger.warning("edgeHub: no TCP_NODELAY, messages may be 40 ms late: %s", one_line(error))


def paho(client: Any) -> Any:
    """The paho client inside: the last stage of the SDK's pipeline holds its transport."""
    stage = client._mqtt_pipeline._pipeline
    while stage.next is not None:
        stage = stage.next
    return stage.transport._mqtt_client


def _no_delay(_client: object, _userdata: object, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a connection that is gone already: paho will notice by itself
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
