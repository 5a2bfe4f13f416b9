"""Closes a module's inputs before its connection, without losing messages.

`client.on_message_received = None` removes the handler before it unsubscribes: the SDK acknowledges messages
that arrive in between and drops them. The SDK's pipeline can unsubscribe while the handler is in place.
"""

import logging
import threading
from typing import Any

from edgekit.log import one_line

logger = logging.getLogger(__name__)

_FEATURE = "input"  # the SDK's name for the subscription to inputs


def stop(client: Any, timeout_s: float) -> bool:
    """Unsubscribe this IoTHubModuleClient from its inputs; whether edgeHub confirmed it within `timeout_s`.

    The SDK's pipeline is not public. If a release moves it, this logs a warning, and frames that arrive
    between the last figures and the end may be lost.
    """
    confirmed = threading.Event()
    try:
        client._mqtt_pipeline.disable_feature(_FEATURE, callback=lambda **_outcome: confirmed.set())
    except Exception as error:  # the pipeline may be gone, too
        logger.warning("edgeHub: inputs stay open until the end: %s", one_line(error))
        return False
    return confirmed.wait(timeout_s)
