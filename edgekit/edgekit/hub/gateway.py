"""The module's edgeHub: whether it accepts TCP connections, and the device that it runs on."""

import os
import socket

_MQTT_PORT = 8883  # fixed in the SDK (ref 0)
_GATEWAY = "IOTEDGE_GATEWAYHOSTNAME"
_DEVICE = "IOTEDGE_DEVICEID"
_CONNECTION_STRING = "EdgeHubConnectionString"
_PROXIES = ("mqtt_proxy", "MQTT_PROXY")


def accepts_tcp(timeout_s: float = 2.0) -> bool:
    """Whether the hub's MQTT port accepts a connection now. Behind an MQTT proxy this is always True."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True  # only the SDK can connect through the proxy
    try:
        socket.create_connection((_host(), _MQTT_PORT), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def device_id() -> str:
    """The device of this module: edgeAgent's variable, else the connection string's (ref 1.3)."""
    return os.environ.get(_DEVICE) or _fields().get("DeviceId", "")


def _host() -> str:
    """The host that the SDK connects to: edgeAgent's variable, else the connection string's (ref 1.3)."""
    fields = _fields()
    return os.environ.get(_GATEWAY) or fields.get("GatewayHostName") or fields.get("HostName", "")


def _fields() -> dict[str, str]:
    text = os.environ.get(_CONNECTION_STRING, "")
    return dict(field.split("=", 1) for field in text.split(";") if "=" in field)
