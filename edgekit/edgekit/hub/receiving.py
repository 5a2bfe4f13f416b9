"""Hands the messages of inputs to the module before they are acknowledged.

The SDK acknowledges a message (PUBACK) and only then hands it over on threads of its own: what waits between
the two is lost with the process, and nobody can count it. paho calls `on_message` before it sends the PUBACK.
So a message that the module has not seen is delivered again by edgeHub.
"""

import logging
from collections.abc import Callable
from typing import Any

from azure.iot.device import Message as SdkMessage
from azure.iot.device.iothub.pipeline import mqtt_topic_iothub

from edgekit.hub.nagle import paho
from edgekit.hub.sending import call_and_log
from edgekit.log import one_line

logger = logging.getLogger(__name__)


def before_puback(client: Any, take: Callable[[SdkMessage], None]) -> None:
    """Call `take` with each input message of this IoTHubModuleClient, on paho's thread, in order.

    The SDK's own handler does not get these messages. It has to be assigned nevertheless: this subscribes. If
    an SDK release moves the paho client, this logs a warning and the SDK's handler gets them.
    """
    try:
        connection = paho(client)
        others = connection.on_message
    except AttributeError as error:
        logger.warning("edgeHub: a kill may lose messages that no counter has: %s", one_line(error))
        return

    def on_message(mqtt_client: Any, userdata: Any, received: Any) -> None:
        # No exception may reach paho: it ends its thread, and with it the connection.
        if received.topic.split("/")[4:5] == ["inputs"]:
            call_and_log(lambda: take(_from_wire(received.topic, received.payload)))
        else:
            others(mqtt_client, userdata, received)

    connection.on_message = on_message


def _from_wire(topic: str, body: bytes) -> SdkMessage:
    """The message as the SDK makes it."""
    message = SdkMessage(body)  # type: ignore[no-untyped-call]
    mqtt_topic_iothub.extract_message_properties_from_topic(topic, message)  # type: ignore[no-untyped-call]
    message.input_name = mqtt_topic_iothub.get_input_name_from_topic(topic)  # type: ignore[no-untyped-call]
    return message
