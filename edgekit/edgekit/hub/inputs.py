"""The end of a module's inputs, before the end of its connection; the SDK's own way loses messages.

`client.on_message_received = None` takes the handler away first and unsubscribes then: what edgeHub sends in
between is acknowledged and reaches nobody. Its pipeline can unsubscribe with the handler still in place.
"""

import logging
import threading
from typing import Any

from edgekit.log import one_line

logger = logging.getLogger(__name__)

_FEATURE = "input"  # the SDK's name for the subscription to inputs


def stop(client: Any, timeout_s: float) -> bool:
    """Unsubscribe this IoTHubModuleClient from its inputs; whether edgeHub agreed in time.

    The way to the pipeline is not public: a release that moves it costs a log line and, at most, the frames
    of the moment between the last figures and the end.
    """
    agreed = threading.Event()
    try:
        client._mqtt_pipeline.disable_feature(_FEATURE, callback=lambda **_outcome: agreed.set())
    except Exception as error:  # the pipeline may be gone, too
        logger.warning("edgeHub: inputs stay open until the end: %s", one_line(error))
        return False
    return agreed.wait(timeout_s)
