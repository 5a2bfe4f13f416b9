"""Stand-in for azureiotedge-hub: iotedgehubdev's contract in front of the simulator's edge device.

It serves MQTT (8883) and HTTPS (443) with the certificate of iotedgehubdev's volume, and hands the bytes on,
under TLS, to the simulator. The simulator is behind the default gateway, on the same ports plus PORT_OFFSET.
The image sets SIMULATOR_HUB and SIMULATOR_EDGE, the addresses in the simulator's certificate, and has its
authority beside this file.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from relay import relay  # type: ignore[import-not-found]

PORTS = (443, 8883)
PORT_OFFSET = 10_000
HERE = Path(__file__).parent


def server_context(pfx: bytes, chain_pem: bytes) -> ssl.SSLContext:
    """TLS with the certificate and key of a PKCS #12 file without a password, and its chain."""
    key, certificate, _ = pkcs12.load_key_and_certificates(pfx, None)
    assert certificate is not None
    assert key is not None
    pem, unencrypted = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(private + certificate.public_bytes(pem) + chain_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def default_gateway(routes: str) -> str:
    """The address of the default route in /proc/net/route, where numbers are little-endian hexadecimal."""
    rows = (line.split() for line in routes.splitlines())
    number = next(row[2] for row in rows if row[1] == "00000000")
    return socket.inet_ntoa(bytes.fromhex(number)[::-1])


def upstream_context(variables: Mapping[str, str]) -> ssl.SSLContext:
    """TLS to the simulator. Exits with one line if the connection string names another hub."""
    fields = dict(each.split("=", 1) for each in variables["IotHubConnectionString"].split(";"))
    upstream = (fields["HostName"].split(":")[0], fields["ModuleId"])
    if upstream != (variables["SIMULATOR_HUB"], "$edgeHub"):
        sys.exit(f"edge_hub: IotHubConnectionString names {upstream}")
    return ssl.create_default_context(cafile=str(HERE / "simulator.pem"))


async def serve(serving: ssl.SSLContext, trusting: ssl.SSLContext, host: str, edge: str) -> None:
    """Serve until the container is stopped."""
    for port in PORTS:
        hand_on = partial(relay, host=host, port=port + PORT_OFFSET, context=trusting, server_hostname=edge)
        await asyncio.start_server(hand_on, "0.0.0.0", port, ssl=serving)
    await asyncio.Event().wait()


def main(variables: Mapping[str, str]) -> None:
    """Serve with these variables, which iotedgehubdev sets."""
    trusting = upstream_context(variables)
    pfx = Path(variables["EdgeModuleHubServerCertificateFile"]).read_bytes()
    chain = Path(variables["EdgeModuleHubServerCAChainCertificateFile"]).read_bytes()
    gateway = default_gateway(Path("/proc/net/route").read_text())
    asyncio.run(serve(server_context(pfx, chain), trusting, gateway, variables["SIMULATOR_EDGE"]))


if __name__ == "__main__":
    main(os.environ)
