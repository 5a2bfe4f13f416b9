"""Authenticates a CONNECT (ref 4.2): protocol level, names and SAS token. Keys and time are arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from twinship.simulator import sas
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import BAD_PROTOCOL_LEVEL, NOT_AUTHORIZED, Connect

Keys: TypeAlias = Callable[[Identity], tuple[str, str] | None]

PROTOCOL_LEVEL: Final = 4
# `<hub>/<device>[/<module>]/?api-version=…`; the ids are not percent-encoded.
_USERNAME = re.compile(r"([^/]+)/([^/]+)(?:/([^/]+))?/\??([^/]*=.*)", re.DOTALL)
# IoT Hub does without the api-version (ref 4.11)
_BARE_USERNAME = re.compile(r"([^/]+)/([^/]+)(?:/([^/?]+))?/?\??()", re.DOTALL)
_OLD_AUDIENCE = re.compile(r"/api-version=[^/]*\Z")


class Refused(Exception):
    """Answer this CONNECT with `code` and close. The text goes to the log and contains no secret."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Accepted:
    """An authenticated client. `expires`: when its token expires, seconds since the epoch."""

    identity: Identity
    expires: float
    model_id: str = ""


def authenticate(
    connect: Connect, *, keys: Keys, hosts: Sequence[str], now: float, at_iot_hub: bool
) -> Accepted:
    """Check level, names and token; raises Refused.

    `hosts`: the host names that the token's audience may have. A device's token is valid for its modules too.
    `at_iot_hub`: api-version may be missing, and end the audience (ref 4.11).
    """
    if connect.level != PROTOCOL_LEVEL:
        raise Refused(BAD_PROTOCOL_LEVEL, f"MQTT level {connect.level} is not 4 (3.1.1)")
    identity, query = _names(connect, at_iot_hub=at_iot_hub)
    if keys(identity) is None:
        raise Refused(NOT_AUTHORIZED, f"{identity}: unknown, or disabled")
    if connect.password is None:
        raise Refused(NOT_AUTHORIZED, f"{identity}: no SAS token (X.509 is not supported here)")
    try:
        token = connect.password.decode()
        old = _OLD_AUDIENCE.search(sas.parse(token).resource) if at_iot_hub else None
        tail = "" if old is None else old[0]
        check_token(identity, token, keys=keys, hosts=hosts, now=now, tail=tail)
        return Accepted(identity, sas.parse(token).expiry, query.get("model-id", ""))
    except UnicodeDecodeError:
        raise Refused(NOT_AUTHORIZED, f"{identity}: the password is no SAS token") from None
    except sas.SasRefused as refused:
        raise Refused(NOT_AUTHORIZED, f"{identity}: {refused.reason}") from None


def check_token(
    identity: Identity, token: str, *, keys: Keys, hosts: Sequence[str], now: float, tail: str = ""
) -> None:
    """Verify a token signed with a key of this identity or of its device; raises SasRefused.

    `tail`: the end of the audience after the identity.
    """
    allowed = [
        (who.resource(host) + tail, found)
        for who in dict.fromkeys((identity, identity.parent))
        if (found := keys(who)) is not None
        for host in hosts
    ]
    sas.verify(token, allowed=allowed, now=now)


def _names(connect: Connect, *, at_iot_hub: bool) -> tuple[Identity, dict[str, str]]:
    """The identity and the query of the user name."""
    username = connect.username or ""
    match = _USERNAME.fullmatch(username) or (at_iot_hub and _BARE_USERNAME.fullmatch(username)) or None
    if match is None:
        raise Refused(NOT_AUTHORIZED, "the user name is not <hub>/<device>[/<module>]/?api-version=…")
    query = dict(parse_qsl(match[4], keep_blank_values=True))
    if "api-version" not in query and not at_iot_hub:
        raise Refused(NOT_AUTHORIZED, "the user name has no api-version")
    try:
        identity = Identity(match[2], match[3])
    except ValueError as error:
        raise Refused(NOT_AUTHORIZED, str(error)) from None
    if connect.client_id != str(identity):
        raise Refused(
            NOT_AUTHORIZED, f"{identity}: client id {connect.client_id[:256]!r} does not match the user name"
        )
    return identity, query
