"""What one AMQP connection may do: shared access keys by SASL PLAIN, and tokens put to `$cbs` (ref 6).

A right is valid for a resource and everything below it, until its token expires.

>>> from twinship.simulator import sas
>>> access = Access("hub.example", {"iothubowner": ["c2VjcmV0"]}, lambda: 1000.0)
>>> access.put_token(sas.sign("c2VjcmV0", "https://hub.example/events", 2000, "iothubowner"))
>>> access.allows("events/ConsumerGroups/$Default/Partitions/0"), access.allows("messages/devicebound")
(True, False)
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twinship.simulator import sas

_MAX_RIGHTS: Final = 64  # of one connection
EVENT_HUBS: Final = (
    "sb"  # its tokens are signed with the text of the key, those of IoT Hub with its bytes [X]
)
LOCAL_NAMES: Final = ("localhost",)  # as Microsoft's emulators are named in connection strings


class Access:
    """The rights of one connection. `policies`: name → base64 keys; each has the right "service connect"."""

    def __init__(
        self, hub_name: str, policies: Mapping[str, Sequence[str]], now: Callable[[], float]
    ) -> None:
        self._hosts = {hub_name.casefold(), *LOCAL_NAMES}
        self._policies = policies
        self._now = now
        self._rights: dict[str, float] = {}  # path without host, in lower case → when it expires

    def sasl(self, mechanism: str, response: bytes | None) -> bool:
        """Whether a SASL response is valid. Only PLAIN gives a right: to everything, without an end."""
        if mechanism != "PLAIN":
            return True
        try:
            _, user, password = (response or b"").decode("utf-8").split("\0")
        except ValueError:
            return False
        policy, _, _ = user.partition("@sas.root.")
        matches = [
            hmac.compare_digest(key.encode(), password.encode()) for key in self._policies.get(policy, ())
        ]
        if any(matches):
            self._rights[""] = float("inf")
        return any(matches)

    def put_token(self, token: str) -> None:
        """Add the right of a token; raises SasRefused."""
        parsed = sas.parse(token)
        if parsed.policy is None:
            raise sas.SasRefused(
                "the token is of a device or module: over AMQP this simulator serves services only; "
                "devices and modules connect with MQTT"
            )
        scheme, host, path = _split(parsed.resource)
        if host not in self._hosts:
            raise sas.SasRefused(f"token is for {parsed.resource!r}, which is not this hub")
        keys = self._policies.get(parsed.policy, ())
        if scheme == EVENT_HUBS:
            keys = [base64.b64encode(key.encode()).decode() for key in keys]
        sas.verify(token, allowed=[(parsed.resource, keys)], now=self._now())
        if len(self._rights) >= _MAX_RIGHTS and path not in self._rights:
            raise sas.SasRefused(f"more than {_MAX_RIGHTS} tokens for one connection")
        self._rights[path] = float(parsed.expiry)

    def allows(self, address: str) -> bool:
        """Whether a right covers this path now."""
        path, now = address.casefold(), self._now()
        return any(
            expires > now and (not right or path == right or path.startswith(right + "/"))
            for right, expires in self._rights.items()
        )

    @property
    def any(self) -> bool:
        """Whether the connection has any right now."""
        return any(expires > self._now() for expires in self._rights.values())


def _split(resource: str) -> tuple[str, str, str]:
    """Scheme (may be empty), host without port, and path of a token's resource, in lower case."""
    scheme, _, rest = resource.casefold().rpartition("://")
    host, _, path = sas.without_port(rest).partition("/")
    return scheme, host, path.strip("/")
