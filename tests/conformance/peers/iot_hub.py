"""An IoT Hub from the view of the service and of devices: a simulator's or a real one, without edge devices.

Everything that a test creates has a name of this run and is removed at the end, also from a real hub.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock
from urllib.parse import quote

import requests
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.iothub_http_runtime_manager import IoTHubHttpRuntimeManager
from azure.iot.hub.iothub_job_manager import IoTHubJobManager
from azure.iot.hub.models import QuerySpecification

from tests.wire.hub_under_test import HubUnderTest
from tests.wire.sdk_module import PATIENCE_S, SdkModule

VARIABLE: Final = "TWINSHIP_VERIFY_CONNECTION"
CA: Final = "REQUESTS_CA_BUNDLE"
VERSION: Final = "?api-version=2021-04-12"
PARTS: Final = ("HostName", "SharedAccessKeyName", "SharedAccessKey")


class NotUsable(Exception):
    """The connection string does not work; the message is one line without the key."""


class IotHub:
    """The SDK's managers with one connection string, and plain HTTPS for answers that the SDK hides."""

    def __init__(self, connection_string: str, running: contextlib.ExitStack) -> None:
        self.parts = parse(connection_string)
        self.registry, self.configurations, self.jobs, self.runtime = (
            self._manager(kind, connection_string, running)
            for kind in (
                IoTHubRegistryManager,
                IoTHubConfigurationManager,
                IoTHubJobManager,
                IoTHubHttpRuntimeManager,
            )
        )
        self._run = f"verify-{secrets.token_hex(4)}"
        self._created: dict[str, None] = {}  # paths in the order of creation

    def id(self, label: object, kind: str = "devices") -> str:
        """An id of this run; the device (or another `kind`) is removed at the end."""
        id = f"{self._run}-{label}"
        self._created[f"/{kind}/{id}"] = None
        return id

    @property
    def device_id(self) -> str:
        """The device of the modules that module() creates."""
        return self.id("modules")

    def module(self, name: str, **options: Any) -> SdkModule:
        """A process with a module's SDK client that connects to IoT Hub itself."""
        for path in (f"/devices/{self.device_id}", f"/devices/{self.device_id}/modules/{name}"):
            if self.call("GET", path).status_code == 404:
                self.service("PUT", path, self._names(path))
        return self._client(f"/devices/{self.device_id}/modules/{name}", **options)

    def device(self, label: str, **options: Any) -> SdkModule:
        """A process with the SDK client of a new device."""
        path = f"/devices/{self.id(label)}"
        self.service("PUT", path, self._names(path))
        return self._client(path, **options)

    def service(self, method: str, path: str, body: object = None) -> Any:
        """One call that must succeed; returns its JSON."""
        answer = self.call(method, path, body)
        assert answer.status_code < 300, (answer.status_code, answer.text)
        return answer.json()

    def call(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        """One call with optional `token` and `headers`."""
        token = options.pop("token", None) or self.token()
        headers = {"Authorization": token, **options.pop("headers", {})}
        address = f"https://{self.parts['HostName']}{path}{VERSION}"
        return requests.request(method, address, json=body, headers=headers, timeout=PATIENCE_S)

    def token(self, resource: str | None = None, *, lower: bool = False) -> str:
        """A token signed by the rule of the reference, without the simulator's code."""
        quoted = quote(resource or self.parts["HostName"], safe="")
        quoted = quoted.lower() if lower else quoted
        expiry = int(time.time()) + 300
        key = base64.b64decode(self.parts["SharedAccessKey"])
        digest = hmac.new(key, f"{quoted}\n{expiry}".encode(), hashlib.sha256).digest()
        signature = quote(base64.b64encode(digest), safe="")
        policy = self.parts["SharedAccessKeyName"]
        return f"SharedAccessSignature sr={quoted}&sig={signature}&se={expiry}&skn={policy}"

    def query(self, text: str, *page: Any) -> Any:
        """Run a query; `page`: continuation and maximum of rows."""
        return self.registry.query_iot_hub(QuerySpecification(query=text), *page)

    def remove_everything(self) -> None:
        """Remove what the test created; modules are removed with their devices."""
        for path in self._created:
            status = self.call("DELETE", path, headers={"If-Match": "*"}).status_code
            assert status in (204, 404), f"{path} could not be removed: {status}"

    def _client(self, path: str, **options: Any) -> SdkModule:
        key = self.service("GET", path)["authentication"]["symmetricKey"]["primaryKey"]
        host = self.parts["HostName"].partition(":")[0]
        names = {
            "DeviceId": path.split("/")[2],
            **({"ModuleId": path.split("/")[4]} if "modules/" in path else {}),
        }
        parts = {"HostName": host, **names, "SharedAccessKey": key}
        client = SdkModule({}, **options)
        try:
            connection_string = ";".join(f"{name}={value}" for name, value in parts.items())
            client.call("create_from", connection_string=connection_string, ca=os.environ.get(CA))
        except BaseException:
            client.kill()
            raise
        return client

    @staticmethod
    def _names(path: str) -> dict[str, str]:
        return dict(zip(("deviceId", "moduleId"), path.split("/")[2::2], strict=False))

    @staticmethod
    def _manager(kind: Any, connection_string: str, running: contextlib.ExitStack) -> Any:
        manager = kind.from_connection_string(connection_string)
        running.callback(manager.protocol.close)
        return manager


def parse(connection_string: str) -> dict[str, str]:
    """The parts of a service's connection string. Raises NotUsable."""
    parts = dict(part.partition("=")[::2] for part in connection_string.split(";"))
    if missing := [name for name in PARTS if not parts.get(name)]:
        raise NotUsable(f"has no {missing[0]}; take the connection string of a shared access policy")
    try:
        base64.b64decode(parts["SharedAccessKey"], validate=True)
    except ValueError:
        raise NotUsable("has a SharedAccessKey that is not base64; copy it again") from None
    return parts


@contextlib.contextmanager
def reached(connection_string: str) -> Iterator[IotHub]:
    """The hub of a connection string; REQUESTS_CA_BUNDLE names the authority, as for the SDK."""
    with contextlib.ExitStack() as running:
        hub = IotHub(connection_string, running)
        running.callback(hub.remove_everything)
        yield hub


@contextlib.contextmanager
def simulated(hub: HubUnderTest) -> Iterator[IotHub]:
    """The IoT Hub of a simulator that a test has started."""
    lines = (hub.folder / "service.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    with (
        mock.patch.dict(os.environ, {CA: variables[CA]}),
        reached(variables["IOTHUB_CONNECTION_STRING"]) as iot_hub,
    ):
        yield iot_hub


def check(connection_string: str) -> None:
    """Raise NotUsable unless the hub answers and this policy may read its registry."""
    with contextlib.ExitStack() as running:
        parts = parse(connection_string)
        try:
            answer = IotHub(connection_string, running).call("GET", "/devices/nobody")
        except ValueError as error:
            raise NotUsable(f"is not accepted by the SDK: {error}") from None
        except requests.RequestException as error:
            raise NotUsable(f"leads to {parts['HostName']}: {_reason(error)}") from None
    if answer.status_code != 404:
        policy, error_code = parts["SharedAccessKeyName"], answer.headers.get("iothub-errorcode", "no reason")
        raise NotUsable(
            f"is refused by {parts['HostName']} for policy {policy}: {answer.status_code}, {error_code}"
        )


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate is not trusted; for a simulator set {CA} as its service.env says"
    return "no server answers there"


def reason_in(environment: dict[str, str]) -> str | None:
    """Why the hub named by the environment cannot be used; None if it can, or if none is named."""
    try:
        if connection_string := environment.get(VARIABLE):
            check(connection_string)
    except NotUsable as error:
        return f"{VARIABLE} {error}"
    return None
