"""IoT Hub's service API through the azure-iot-hub SDK: short time-outs, no retries, one-line errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from twinship.fleet import FleetError
from twinship.fleet.connection import CA_VARIABLE, PARTS, Connection, NotConfigured, check_identifier

T = TypeVar("T")

# Together below 15 s, so that a command does not seem dead. The SDK's defaults are 100 s and four tries.
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 9.0


class HubUnavailable(FleetError):
    """Transient failure of the network or the hub; a retry may succeed."""


class HubRefused(FleetError):
    """The hub refused the request; `status` is the HTTP status, 0 if there was no HTTP response."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFound(HubRefused):
    """The hub has no such device or module."""


class PreconditionFailed(HubRefused):
    """The object changed between reading and writing (412): read it again, then write again."""


@dataclass(frozen=True)
class ModuleTwin:
    """A module's twin without `$metadata`; `desired` and `reported` contain their `$version`."""

    device: str
    module: str
    etag: str
    connection_state: str
    desired: Mapping[str, Any]
    reported: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """An automatic deployment, without its content."""

    id: str
    labels: Mapping[str, str]
    target_condition: str
    priority: int
    etag: str = ""


class ServiceHub:
    """A connection to IoT Hub's service API, for a `with` statement. All methods raise only FleetErrors.

    All requests of a thread share one TLS connection, and those for automatic deployments another one.
    Nothing is retried: the SDK's retries hide the hub's error text and take seconds on a closed port.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._registry_manager: Any = None
        self._configuration_manager: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sdk in (self._registry_manager, self._configuration_manager):
            if sdk is not None:
                _close(sdk)

    def module_twin(self, device: str, module: str) -> ModuleTwin:
        """Read a module's twin. Raises NotFound, HubUnavailable, HubRefused."""
        return self._call(
            f"module {device}/{module}",
            lambda: _module_twin(self._registry().get_module_twin(device, module), device, module),
        )

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], etag: str) -> ModuleTwin:
        """Merge `patch` into the desired properties if the twin has this etag; return the new twin.

        Raises PreconditionFailed if the etag differs, NotFound, HubUnavailable, HubRefused.
        """

        def request() -> ModuleTwin:
            from azure.iot.hub.models import Twin, TwinProperties

            body = Twin(properties=TwinProperties(desired=dict(patch)))
            return _module_twin(
                self._registry().update_module_twin(device, module, body, etag), device, module
            )

        return self._call(f"module {device}/{module}", request)

    def modules(self, device: str) -> tuple[str, ...]:
        """The sorted names of the device's modules, with `$edgeAgent` and `$edgeHub`. Raises NotFound."""
        found = self._call(f"device {device}", lambda: self._registry().get_modules(device))
        return tuple(sorted(module.module_id for module in found))

    def device_connection_state(self, device: str) -> str:
        """`Connected` or `Disconnected`. Raises NotFound."""
        found = self._call(f"device {device}", lambda: self._registry().get_device(device))
        return str(found.connection_state or "")

    def create_edge_device(self, device: str) -> None:
        """Create an edge device with symmetric keys. The hub generates the keys; they are not read."""
        self._call(
            f"device {device}",
            lambda: self._registry().create_device_with_sas(device, None, None, "enabled", iot_edge=True),
        )

    def apply_configuration(self, device: str, modules_content: Mapping[str, Any]) -> None:
        """Replace the device's modules, routes and module twins (applyConfigurationContent)."""

        def request() -> None:
            from azure.iot.hub.models import ConfigurationContent

            content = ConfigurationContent(modules_content=dict(modules_content))
            self._configuration().apply_configuration_on_edge_device(device, content)

        self._call(f"device {device}", request)

    def configurations(self) -> tuple[Configuration, ...]:
        """All automatic deployments of the hub, at most 100."""
        found = self._call("configuration list", lambda: self._configuration().get_configurations(100))
        return tuple(
            Configuration(
                each.id, each.labels or {}, each.target_condition or "", each.priority or 0, each.etag
            )
            for each in found
        )

    def create_configuration(self, configuration: Configuration, modules_content: Mapping[str, Any]) -> None:
        """Create an automatic deployment with this content."""

        def request() -> None:
            from azure.iot.hub.models import ConfigurationContent

            content = ConfigurationContent(modules_content=dict(modules_content))
            self._configuration().create_configuration(_sdk_configuration(configuration, content=content))

        self._call(f"configuration {configuration.id}", request)

    def update_configuration(self, configuration: Configuration) -> None:
        """Change the condition and the priority, but not the content. Raises PreconditionFailed if the etag
        differs."""

        def request() -> None:
            self._configuration().update_configuration(_sdk_configuration(configuration), configuration.etag)

        self._call(f"configuration {configuration.id}", request)

    def delete_configuration(self, present: Configuration) -> None:
        """Delete an automatic deployment. Raises PreconditionFailed if the etag differs."""
        self._call(
            f"configuration {present.id}",
            lambda: self._configuration().delete_configuration(present.id, present.etag),
        )

    def call_registry(self, target: str, request: Callable[[Any], T]) -> T:
        """Send a request with the SDK's registry manager that no other method has (see methods.py).

        `target` is "module DEVICE/MODULE" or "device DEVICE". Raises NotFound, HubUnavailable, HubRefused.
        """
        return self._call(target, lambda: request(self._registry()))

    def _call(self, target: str, request: Callable[[], T]) -> T:
        kind, _, name = target.partition(" ")
        for part in name.split("/", 1) if kind == "module" else [name]:
            check_identifier(kind, part)
        with _one_line_errors(self.connection, target):
            return request()

    def _registry(self) -> Any:
        if self._registry_manager is None:
            from azure.iot.hub import IoTHubRegistryManager

            self._registry_manager = _sdk_client(IoTHubRegistryManager, self.connection)
        return self._registry_manager

    def _configuration(self) -> Any:
        if self._configuration_manager is None:
            from azure.iot.hub import IoTHubConfigurationManager

            self._configuration_manager = _sdk_client(IoTHubConfigurationManager, self.connection)
        return self._configuration_manager


def _sdk_client(sdk_class: Any, connection: Connection) -> Any:
    """An SDK client with our time-outs, without retries, and with our settings for proxies and CAs."""
    # Built from the checked parts: the SDK refuses a trailing semicolon and unknown keys.
    values = (connection.host, connection.policy, connection.key)
    text = ";".join(f"{name}={value}" for name, value in zip(PARTS, values, strict=True))
    sdk = sdk_class.from_connection_string(text)
    config = sdk.protocol.config
    config.connection.timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    config.connection.verify = str(connection.ca_bundle) if connection.ca_bundle else True
    config.retry_policy.retries = 0
    config.retry_policy.policy.status_forcelist = ()
    config.retry_policy.policy.read = False  # else a time-out is reported as a different error
    config.proxies.use_env_settings = not connection.loopback
    config.keep_alive = True  # else the SDK makes a TLS connection for each request, and closes none of them
    return sdk


def _close(sdk: Any) -> None:
    """Close the client's connections.

    The SDK's close() only forgets urllib3's pools. Their connections stay open until a garbage collection,
    because the SDK's responses refer to themselves and to their pool.
    """
    for adapter in sdk.protocol.config.pipeline._sender.driver.session.adapters.values():
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - urllib3's container refuses iteration
                manager.pools[key].close()
    sdk.protocol.close()


def _sdk_configuration(configuration: Configuration, **content: Any) -> Any:
    from azure.iot.hub.models import Configuration as SdkConfiguration

    return SdkConfiguration(
        id=configuration.id,
        schema_version="1.0",
        labels=dict(configuration.labels),
        target_condition=configuration.target_condition,
        priority=configuration.priority,
        etag=configuration.etag or None,
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

# HTTP status → the error to raise; {target}, {host}, {policy} and {message} are filled in.
_STATUS: dict[int, tuple[Callable[[str, int], FleetError], str]] = {
    401: (
        HubRefused,
        "{host} does not accept the key of policy {policy} (401); cure: copy the connection string again, "
        "and check this machine's clock",
    ),
    403: (
        HubRefused,
        "{host} does not allow this for policy {policy} (403{message}); cure: use one with registry write "
        "and service connect",
    ),
    404: (NotFound, "{target} is not on {host} (404); cure: check the name, or run twinship deploy first"),
    412: (PreconditionFailed, "someone else changed {target} (412); cure: run the command again"),
}


@contextmanager
def _one_line_errors(connection: Connection, target: str) -> Iterator[None]:
    """Turn every error of the SDK, requests or TLS into a FleetError."""
    try:
        yield
    except FleetError:
        raise
    except ImportError as error:
        raise NotConfigured(
            f"azure-iot-hub cannot be imported ({error.name}); cure: make setup on Linux x86-64; "
            "publish --print works without it"
        ) from error
    except Exception as error:  # the SDK documents few of the errors it raises
        raise translated(error, connection, target) from error


def translated(error: Exception, connection: Connection, target: str) -> FleetError:
    """The FleetError for an error of the SDK, requests or TLS."""
    response = getattr(error, "response", None)
    if isinstance(status := getattr(response, "status_code", None), int):
        return _from_status(status, _message(response), connection, target)
    return _from_transport(getattr(error, "inner_exception", None) or error, connection)


def _from_status(status: int, message: str, connection: Connection, target: str) -> FleetError:
    if status in _STATUS:
        make, text = _STATUS[status]
        return make(
            text.format(target=target, host=connection.host, policy=connection.policy, message=message),
            status,
        )
    if status == 429 or status >= 500:
        return HubUnavailable(
            f"{connection.host} is busy or has an error ({status}{message}); cure: try again in a minute"
        )
    return HubRefused(f"{connection.host} refuses this for {target} ({status}{message})", status)


def _message(response: Any) -> str:
    """The hub's error text (`Message`, ref 5.1) as ': text' of at most 200 characters, or ''."""
    try:
        message = str(json.loads(response.text)["Message"])
    except (ValueError, KeyError, TypeError):
        return ""
    # A hub should not send a signature back. If it does, the signature is removed here.
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
        return HubUnavailable(f"{host} {what}; cure: {_cure_for_no_connection(connection)}")
    return HubRefused(
        f"the response of {host} cannot be parsed ({type(cause).__name__}); cure: --debug shows it"
    )


def _from_tls(host: str, text: str) -> FleetError:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return NotConfigured(
            f"the certificate of {host} is not trusted; cure: {CA_VARIABLE} must name the hub's CA file "
            "(the simulator makes a new one at each start and names it in service.env)"
        )
    return HubUnavailable(f"the TLS handshake with {host} failed; cure: check HostName and its port")


def _cure_for_no_connection(connection: Connection) -> str:
    if connection.loopback:
        return "start the simulator (twinship simulate), which writes a new service.env"
    return f"check HostName in {connection.source}, and the network"
