"""IoT Hub's service API through the azure-iot-hub SDK: own time-outs, no hidden retry, a failure is one line.
It knows twins and modules by name only; what is written into them is publish.py's and deploy.py's to say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from twinship.fleet import FleetError
from twinship.fleet.connection import CA_VARIABLE, PARTS, Connection, NotConfigured, check_identifier

T = TypeVar("T")

# Together below the 15 s after which a person takes a command for dead. The SDK's own: 100 s, four times.
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 9.0


class HubUnavailable(FleetError):
    """The trouble of the moment, the network's or the hub's: the same command may succeed later."""


class HubRefused(FleetError):
    """The hub understood and said no; `status` is its HTTP status, 0 when it was no HTTP answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFound(HubRefused):
    """The hub has no such device or module."""


class PreconditionFailed(HubRefused):
    """The twin changed between reading and writing (412): read again, then write again."""


@dataclass(frozen=True)
class ModuleTwin:
    """One module's twin as the service shows it; `$metadata` left out, `$version` kept inside each part."""

    device: str
    module: str
    etag: str
    connection_state: str
    desired: Mapping[str, Any]
    reported: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """An automatic deployment, but for its content."""

    id: str
    labels: Mapping[str, str]
    target_condition: str
    priority: int
    etag: str = ""


class ServiceHub:
    """One operator's conversation with IoT Hub. Use it in a `with`; every method raises only FleetErrors.

    No retry hides in here: the SDK's would swallow the hub's own words and spend seconds on a closed port.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._registry_manager: Any = None
        self._configuration_manager: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sdk in (self._registry_manager, self._configuration_manager):
            if sdk is not None:
                sdk.protocol.close()

    def module_twin(self, device: str, module: str) -> ModuleTwin:
        """Raises NotFound, HubUnavailable, HubRefused."""
        return self._ask(
            f"module {device}/{module}",
            lambda: _module_twin(self._registry().get_module_twin(device, module), device, module),
        )

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], etag: str) -> ModuleTwin:
        """Merge `patch` into the desired properties if the twin still has this etag; the twin after it.

        Raises PreconditionFailed when it has another, NotFound, HubUnavailable, HubRefused.
        """

        def ask() -> ModuleTwin:
            from azure.iot.hub.models import Twin, TwinProperties

            body = Twin(properties=TwinProperties(desired=dict(patch)))
            return _module_twin(
                self._registry().update_module_twin(device, module, body, etag), device, module
            )

        return self._ask(f"module {device}/{module}", ask)

    def modules(self, device: str) -> tuple[str, ...]:
        """The device's modules by name, sorted, `$edgeAgent` and `$edgeHub` among them. Raises NotFound."""
        found = self._ask(f"device {device}", lambda: self._registry().get_modules(device))
        return tuple(sorted(module.module_id for module in found))

    def device_connection_state(self, device: str) -> str:
        """`Connected` or `Disconnected`. Raises NotFound."""
        found = self._ask(f"device {device}", lambda: self._registry().get_device(device))
        return str(found.connection_state or "")

    def create_edge_device(self, device: str) -> None:
        """A new edge device with symmetric keys that the hub makes; they are not read back."""
        self._ask(
            f"device {device}",
            lambda: self._registry().create_device_with_sas(device, None, None, "enabled", iot_edge=True),
        )

    def apply_configuration(self, device: str, modules_content: Mapping[str, Any]) -> None:
        """Set the device's modules, routes and module twins as one (applyConfigurationContent)."""

        def ask() -> None:
            from azure.iot.hub.models import ConfigurationContent

            content = ConfigurationContent(modules_content=dict(modules_content))
            self._configuration().apply_configuration_on_edge_device(device, content)

        self._ask(f"device {device}", ask)

    def configurations(self) -> tuple[Configuration, ...]:
        """All automatic deployments of the hub; there are a hundred at most."""
        found = self._ask("configuration list", lambda: self._configuration().get_configurations(100))
        return tuple(
            Configuration(
                each.id, each.labels or {}, each.target_condition or "", each.priority or 0, each.etag
            )
            for each in found
        )

    def create_configuration(self, wanted: Configuration, modules_content: Mapping[str, Any]) -> None:
        """A new automatic deployment with this content."""

        def ask() -> None:
            from azure.iot.hub.models import ConfigurationContent

            content = ConfigurationContent(modules_content=dict(modules_content))
            self._configuration().create_configuration(_sdk_configuration(wanted, content=content))

        self._ask(f"configuration {wanted.id}", ask)

    def update_configuration(self, wanted: Configuration) -> None:
        """Another condition or priority, if it still has this etag; the content stays. Raises
        PreconditionFailed when it has another."""

        def ask() -> None:
            self._configuration().update_configuration(_sdk_configuration(wanted), wanted.etag)

        self._ask(f"configuration {wanted.id}", ask)

    def delete_configuration(self, present: Configuration) -> None:
        """Devices get what is next in line. Raises PreconditionFailed when it has another etag."""
        self._ask(
            f"configuration {present.id}",
            lambda: self._configuration().delete_configuration(present.id, present.etag),
        )

    def ask_registry(self, thing: str, question: Callable[[Any], T]) -> T:
        """Ask the SDK's registry manager something that has no method here (see methods.py).

        `thing` is "module DEVICE/MODULE" or "device DEVICE". Raises NotFound, HubUnavailable, HubRefused.
        """
        return self._ask(thing, lambda: question(self._registry()))

    def _ask(self, thing: str, question: Callable[[], T]) -> T:
        kind, _, name = thing.partition(" ")
        for part in name.split("/"):
            check_identifier(kind, part)
        with _one_line(self.connection, thing):
            return question()

    def _registry(self) -> Any:
        if self._registry_manager is None:
            from azure.iot.hub import IoTHubRegistryManager

            self._registry_manager = _tuned(IoTHubRegistryManager, self.connection)
        return self._registry_manager

    def _configuration(self) -> Any:
        if self._configuration_manager is None:
            from azure.iot.hub import IoTHubConfigurationManager

            self._configuration_manager = _tuned(IoTHubConfigurationManager, self.connection)
        return self._configuration_manager


def _tuned(sdk_class: Any, connection: Connection) -> Any:
    """An SDK object with our time-outs, no retry, and our say on proxies and authorities."""
    # Rebuilt from its parts: the SDK refuses a trailing semicolon and every key that it does not know.
    values = (connection.host, connection.policy, connection.key)
    text = ";".join(f"{name}={value}" for name, value in zip(PARTS, values, strict=True))
    sdk = sdk_class.from_connection_string(text)
    config = sdk.protocol.config
    config.connection.timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    config.connection.verify = str(connection.ca_bundle) if connection.ca_bundle else True
    config.retry_policy.retries = 0
    config.retry_policy.policy.status_forcelist = ()
    config.retry_policy.policy.read = False  # a time-out stays one, as in requests by itself
    config.proxies.use_env_settings = not connection.loopback
    return sdk


def _sdk_configuration(wanted: Configuration, **content: Any) -> Any:
    from azure.iot.hub.models import Configuration as SdkConfiguration

    return SdkConfiguration(
        id=wanted.id,
        schema_version="1.0",
        labels=dict(wanted.labels),
        target_condition=wanted.target_condition,
        priority=wanted.priority,
        etag=wanted.etag or None,
        **content,
    )


def _module_twin(twin: Any, device: str, module: str) -> ModuleTwin:
    desired, reported = (twin.properties.desired, twin.properties.reported) if twin.properties else ({}, {})
    return ModuleTwin(
        device,
        module,
        twin.etag or "*",
        str(twin.connection_state or ""),
        _without_metadata(desired),
        _without_metadata(reported),
    )


def _without_metadata(part: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (part or {}).items() if name != "$metadata"}


# -- failures ------------------------------------------------------------------------------------------------

# HTTP status → the error to raise; {thing}, {host}, {policy} and {said} are filled in.
_STATUS: dict[int, tuple[Callable[[str, int], FleetError], str]] = {
    401: (
        HubRefused,
        "{host} does not accept the key of policy {policy} (401); cure: copy the connection string again, "
        "and check this machine's clock",
    ),
    403: (
        HubRefused,
        "{host} does not let policy {policy} do this (403{said}); cure: use one with registry write and "
        "service connect",
    ),
    404: (NotFound, "{thing} is not on {host} (404); cure: check the name, or run twinship deploy first"),
    412: (PreconditionFailed, "someone else changed {thing} (412); cure: run the command again"),
}


@contextmanager
def _one_line(connection: Connection, thing: str) -> Iterator[None]:
    """Raise whatever the SDK, requests or TLS raise as one FleetError."""
    try:
        yield
    except FleetError:
        raise
    except ImportError as error:
        raise NotConfigured(
            f"azure-iot-hub cannot be loaded here ({error.name}); cure: make setup on Linux x86-64; "
            "publish --print works without it"
        ) from error
    except Exception as error:  # the SDK documents little of what passes through it
        raise _translated(error, connection, thing) from error


def _translated(error: Exception, connection: Connection, thing: str) -> FleetError:
    response = getattr(error, "response", None)
    if isinstance(status := getattr(response, "status_code", None), int):
        return _from_status(status, _said(response), connection, thing)
    return _from_transport(getattr(error, "inner_exception", None) or error, connection)


def _from_status(status: int, said: str, connection: Connection, thing: str) -> FleetError:
    if status in _STATUS:
        make, text = _STATUS[status]
        return make(
            text.format(thing=thing, host=connection.host, policy=connection.policy, said=said), status
        )
    if status == 429 or status >= 500:
        return HubUnavailable(
            f"{connection.host} is busy or in trouble ({status}{said}); cure: try again in a minute"
        )
    return HubRefused(f"{connection.host} refuses this for {thing} ({status}{said})", status)


def _said(response: Any) -> str:
    """What the hub wrote, as ': text' of at most 200 characters, or '' (ref 5.1: it stands in `Message`)."""
    try:
        message = str(json.loads(response.text)["Message"])
    except (ValueError, KeyError, TypeError):
        return ""
    # A hub has no reason to send a signature back. If one does, it ends here.
    message = re.sub(r"(?i)\b(SharedAccess\w*|sig)[\s=]+\S+", r"\1=…", " ".join(message.split()))
    return f": {message[:200]}"


def _from_transport(cause: BaseException, connection: Connection) -> FleetError:
    from requests import exceptions as requests_errors

    host, text = connection.host, str(cause)
    if isinstance(cause, requests_errors.SSLError):
        return _from_tls(host, text)
    if isinstance(cause, requests_errors.ProxyError):
        return HubUnavailable(f"the proxy does not reach {host}; cure: check https_proxy and no_proxy")
    if isinstance(cause, requests_errors.Timeout):
        return HubUnavailable(f"{host} does not answer; cure: check the network, then try again")
    if isinstance(cause, requests_errors.ConnectionError):
        what = "has no address" if "NameResolutionError" in text else "cannot be reached"
        return HubUnavailable(f"{host} {what}; cure: {_cure_for_silence(connection)}")
    return HubRefused(
        f"the answer of {host} cannot be understood ({type(cause).__name__}); cure: --debug shows it"
    )


def _from_tls(host: str, text: str) -> FleetError:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return NotConfigured(
            f"the certificate of {host} is not trusted; cure: {CA_VARIABLE} must name the hub's authority "
            "(the simulator makes a new one at each start and names it in service.env)"
        )
    return HubUnavailable(f"no TLS with {host}; cure: check HostName and its port")


def _cure_for_silence(connection: Connection) -> str:
    if connection.loopback:
        return "start the simulator (twinship simulate), which writes a new service.env"
    return f"check HostName in {connection.source}, and the network"
