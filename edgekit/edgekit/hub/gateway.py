"""Whether the edgeHub that this environment names takes TCP connections at all; speaks no MQTT."""

import os
import socket

_MQTT_PORT = 8883  # fixed in the SDK (ref 0)
_GATEWAY = "IOTEDGE_GATEWAYHOSTNAME"
_CONNECTION_STRING = "EdgeHubConnectionString"
_PROXIES = ("mqtt_proxy", "MQTT_PROXY")


def host() -> str:
    """The host that the SDK connects to: edgeAgent's variable, else the connection string's (ref 1.3)."""
    text = os.environ.get(_CONNECTION_STRING, "")
    fields = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    return os.environ.get(_GATEWAY) or fields.get("GatewayHostName") or fields.get("HostName", "")


def accepts_tcp(timeout_s: float = 2.0) -> bool:
    """Whether a connection to the hub's MQTT port is accepted now."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True  # the way leads through a proxy, which only the SDK knows how to ask
    try:
        socket.create_connection((host(), _MQTT_PORT), timeout=timeout_s).close()
    except OSError:
        return False
    return True
