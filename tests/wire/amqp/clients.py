"""azure-eventhub, azure-iot-hub and uamqp as clients of the hub under test."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from azure.eventhub import EventData, EventHubConsumerClient, PartitionContext

from tests.wire.hub_under_test import HubUnderTest, wait_for
from tests.wire.sdk_module import PATIENCE_S

EMULATOR_PORT = 5672
#: azure-iot-hub in a process of its own: uamqp reads SSL_CERT_FILE once.
_SERVICE = """
import json, sys, time
from base64 import b64decode
from azure.core.credentials import AccessToken
from azure.iot.hub import IoTHubRegistryManager
import uamqp
from twinship.simulator import sas

connection_string = sys.argv[1]
parts = dict(part.split("=", 1) for part in connection_string.split(";"))
host = parts["HostName"].partition(":")[0]

def send(device, body, properties):
    manager = IoTHubRegistryManager.from_connection_string(connection_string)
    try:
        manager.send_c2d_message(device, body, properties)
    finally:
        manager.amqp_svc_client.disconnect_sync()

def send_over_websockets(device, body):
    kind = uamqp.TransportType.AmqpOverWebsocket
    manager = IoTHubRegistryManager.from_connection_string(
        connection_string.replace(parts["HostName"], host), transport_type=kind)
    try:
        manager.send_c2d_message(device, body, {})
    finally:
        manager.amqp_svc_client.disconnect_sync()

def feedback(address, most, outcome):
    expiry = int(time.time()) + 600
    token = sas.sign(parts["SharedAccessKey"], host, expiry, parts["SharedAccessKeyName"])
    auth = uamqp.authentication.JWTTokenAuth(
        "https://" + host, "https://" + host, get_token=lambda: AccessToken(token, expiry),
        token_type=b"servicebus.windows.net:sastoken")
    auth.update_token()
    client = uamqp.ReceiveClient(f"amqps://{host}{address}", auth=auth, auto_complete=False)
    try:
        records = []
        for message in client.receive_message_batch(max_batch_size=most, timeout=5000):
            records += json.loads(b"".join(message.get_data()))
            getattr(message, outcome)()
        return records
    finally:
        client.close()

try:
    print(json.dumps({"result": globals()[sys.argv[2]](*json.loads(sys.argv[3]))}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""


class ServiceError(Exception):
    """What azure-iot-hub or uamqp raised."""


def variables(hub: HubUnderTest) -> dict[str, str]:
    """The content of service.env."""
    lines = (hub.folder / "service.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def call_service(hub: HubUnderTest, function: str, *arguments: Any) -> Any:
    """Call a function of the program above; raises ServiceError."""
    of_hub = variables(hub)
    command = [sys.executable, "-W", "ignore", "-c", _SERVICE]
    ended = subprocess.run(
        [*command, of_hub["IOTHUB_CONNECTION_STRING"], function, json.dumps(arguments)],
        env={**os.environ, "SSL_CERT_FILE": of_hub["REQUESTS_CA_BUNDLE"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout.splitlines()[-1])
    if "error" in answer:
        raise ServiceError(answer["error"])
    return answer["result"]


def send_to_device(hub: HubUnderTest, device: str, body: str, **properties: str) -> None:
    """IoTHubRegistryManager.send_c2d_message; `iothub_ack` is written with a hyphen. Raises ServiceError."""
    named = {name.replace("iothub_", "iothub-"): value for name, value in properties.items()}
    call_service(hub, "send", device, body, named)


def feedback(hub: HubUnderTest, *, outcome: str = "accept", most: int = 1) -> list[dict[str, str]]:
    """The records of the next feedback message; `outcome` is what the client does with it."""
    return list(call_service(hub, "feedback", "/messages/serviceBound/feedback", most, outcome))


def consumer(hub: HubUnderTest, group: str = "$Default", **options: Any) -> EventHubConsumerClient:
    """The client with the connection string of service.env."""
    of_hub = variables(hub)
    text = options.pop("connection_string", of_hub["IOTHUB_EVENTHUB_CONNECTION_STRING"])
    options = {"connection_verify": of_hub["REQUESTS_CA_BUNDLE"], "retry_total": 1, **options}
    return EventHubConsumerClient.from_connection_string(text, consumer_group=group, **options)


def emulator_connection_string(hub: HubUnderTest) -> str:
    """The connection string for the port without TLS, as Microsoft's emulator has it."""
    text = variables(hub)["IOTHUB_EVENTHUB_CONNECTION_STRING"]
    plain = text.replace(f"sb://{hub.hub_address}/", f"sb://{hub.hub_address}:{EMULATOR_PORT}")
    return f"{plain};UseDevelopmentEmulator=true"


class Reading:
    """What one receive() of a client has got so far."""

    def __init__(self) -> None:
        self.events: list[tuple[str, EventData]] = []
        self.errors: list[Exception] = []

    @property
    def bodies(self) -> list[str]:
        """The bodies in order of arrival."""
        return [event.body_as_str() for _, event in self.events]

    def wait(self, count: int) -> list[str]:
        """Wait until so many events have arrived; returns their bodies."""
        wait_for(lambda: len(self.events) >= count, f"{count} events; {self.bodies} and {self.errors} came")
        return self.bodies

    def got(self, context: PartitionContext, event: EventData | None) -> None:
        """For receive()."""
        assert event is not None
        self.events.append((context.partition_id, event))

    def failed(self, context: PartitionContext | None, error: Exception) -> None:
        """For receive()."""
        self.errors.append(error)


@contextlib.contextmanager
def reading(client: EventHubConsumerClient, **options: Any) -> Iterator[Reading]:
    """Run receive() on a thread; by default from the oldest event."""
    found = Reading()
    options = {"starting_position": "-1", **options}
    thread = threading.Thread(
        target=client.receive, args=(found.got,), kwargs={"on_error": found.failed, **options}, daemon=True
    )
    thread.start()
    try:
        yield found
    finally:
        client.close()
        thread.join(PATIENCE_S)
