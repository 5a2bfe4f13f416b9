"""A raw MQTT client over real TLS: sends given packets and reads the answers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TypeVar

from tests.wire.hub_under_test import DEVICE, HubUnderTest
from tests.wire.sdk_module import PATIENCE_S
from twinship.simulator import sas
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.packets import Connack, Connect, Packet

P = TypeVar("P", bound=Packet)


class RawModule:
    """A TLS connection that sends and reads packets. `address`: default is that of the edge device."""

    def __init__(
        self,
        hub: HubUnderTest,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        *,
        address: str | None = None,
    ) -> None:
        address = address or hub.gateway
        context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
        context.minimum_version = context.maximum_version = version
        plain = socket.create_connection((address, 8883), timeout=PATIENCE_S)
        try:
            self._socket = context.wrap_socket(plain, server_hostname=address)
        except BaseException:
            plain.close()
            raise
        self._hub = hub
        self._reader = PacketReader()
        self._packets: list[Packet] = []

    def connect(
        self,
        module: str,
        *,
        keep_alive_s: int = 60,
        ttl_s: int = 3600,
        password: bytes | None = None,
        key: str | None = None,
    ) -> Connack:
        """CONNECT as the SDK does; returns the answer. `key`: the module's; read from the service if None."""
        return self.connect_as(
            Identity(DEVICE, module),
            key or self._hub.key(module),
            keep_alive_s=keep_alive_s,
            ttl_s=ttl_s,
            password=password,
        )

    def connect_as(
        self,
        identity: Identity,
        key: str,
        *,
        keep_alive_s: int = 60,
        ttl_s: int = 3600,
        password: bytes | None = None,
        username: str | None = None,
        client_id: str | None = None,
        signer: Identity | None = None,
        clean: bool = False,
    ) -> Connack:
        """CONNECT as any identity; `key` signs a token for `signer`, by default the identity."""
        hub = self._hub.hub_address
        token = sas.sign(key, (signer or identity).resource(hub), int(time.time()) + ttl_s)
        username = username or f"{hub}/{identity}/?api-version=2019-10-01"
        secret = password or token.encode()
        self.send(Connect(client_id or str(identity), username, secret, keep_alive_s, clean))
        return self.next(Connack)

    def alternative_names(self) -> tuple[tuple[str, str], ...]:
        """The names in the server's certificate."""
        certificate = self._socket.getpeercert()
        assert certificate is not None
        return tuple(certificate["subjectAltName"])  # type: ignore[arg-type]

    def send(self, packet: Packet) -> None:
        """Write a packet."""
        self._socket.sendall(packet.encode())

    def next(self, kind: type[P]) -> P:
        """The next packet, which must be of this kind."""
        while not self._packets:
            data = self._socket.recv(65536)
            assert data, "the hub closed the connection"
            self._packets += self._reader.feed(data)
        packet = self._packets.pop(0)
        assert isinstance(packet, kind)
        return packet

    def wait_closed(self) -> None:
        """Read until the hub closes the connection; raises TimeoutError if it does not."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self._socket.recv(65536):
                pass

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()
