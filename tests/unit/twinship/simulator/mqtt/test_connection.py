"""One connection: the order of packets, their size, and the time limits."""

from __future__ import annotations

import pytest

from twinship.simulator.mqtt.connection import (
    CONNECT_ARRIVAL_S,
    MAX_IDLE_AT_IOT_HUB_S,
    MAX_IDLE_S,
    MAX_PACKET_BYTES,
    ServerConnection,
    State,
)
from twinship.simulator.mqtt.fields import ProtocolError
from twinship.simulator.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)

CONNECT = Connect("d/m", "u", b"p", 60)


def opened(keep_alive_s: int = 60, max_idle_s: float = MAX_IDLE_S) -> ServerConnection:
    """A connection that accepted its CONNECT at time 0."""
    connection = ServerConnection(0.0)
    assert list(connection.receive(CONNECT.encode(), 0.0)) == [CONNECT]
    connection.accepted(keep_alive_s, 0.0, max_idle_s)
    return connection


@pytest.mark.parametrize("packet", [Pingreq(), Publish("a", b""), Subscribe(1, (("a", 0),)), Disconnect()])
def test_the_first_packet_must_be_connect(packet: Packet) -> None:
    """MQTT-3.1.0-1."""
    with pytest.raises(ProtocolError, match="EXPECT_CONNECT"):
        list(ServerConnection(0.0).receive(packet.encode(), 0.0))


@pytest.mark.parametrize("packet", [CONNECT, Connack(0), Suback(1, (0,)), Pingresp()])
def test_a_forbidden_packet_closes(packet: Packet) -> None:
    """A second CONNECT (MQTT-3.1.0-2), and packets that only servers send."""
    connection = opened()
    with pytest.raises(ProtocolError, match="OPEN"):
        list(connection.receive(packet.encode(), 0.0))
    assert connection.state is State.CLOSED


def test_qos_2_closes() -> None:
    """Ref statement 22."""
    with pytest.raises(ProtocolError, match="QoS 2"):
        list(opened().receive(Publish("a", b"", 2, 1).encode(), 0.0))


def test_packets_before_an_error_are_returned() -> None:
    """A PUBACK before invalid bytes counts."""
    packets = opened().receive(Puback(1).encode() + b"\xff\x00", 0.0)
    assert next(packets) == Puback(1)
    with pytest.raises(ProtocolError):
        next(packets)


def test_nothing_is_read_after_disconnect() -> None:
    """Bytes after DISCONNECT are not decoded."""
    connection = opened()
    assert list(connection.receive(Disconnect().encode() + Pingreq().encode(), 0.0)) == [Disconnect()]
    assert connection.state is State.CLOSED


def test_the_largest_packet_is_exactly_the_limit() -> None:
    """With the fixed header (ref statement 36); a larger packet is refused before all bytes arrive."""
    body = MAX_PACKET_BYTES - 4 - 3  # header of four bytes, topic of three
    fits = Publish("a", bytes(body)).encode()
    assert len(fits) == MAX_PACKET_BYTES
    assert len(list(opened().receive(fits, 0.0))) == 1
    with pytest.raises(ProtocolError, match=f"{MAX_PACKET_BYTES + 1} bytes"):
        list(opened().receive(Publish("a", bytes(body + 1)).encode()[:10], 0.0))


def test_a_length_of_more_than_four_bytes_is_refused() -> None:
    """Remaining length, 2.2.3."""
    with pytest.raises(ProtocolError, match="remaining length"):
        list(opened().receive(b"\x30\xff\xff\xff\xff\x01", 0.0))


@pytest.mark.parametrize(
    ("keep_alive_s", "silence_s"), [(60, 90), (1, 1.5), (1740, MAX_IDLE_S), (0, MAX_IDLE_S)]
)
def test_a_client_may_be_silent_for_one_and_a_half_keep_alives(keep_alive_s: int, silence_s: float) -> None:
    """MQTT-3.1.2-24, with edgeHub's limit (ref 4.1); any bytes restart the time."""
    connection = opened(keep_alive_s)
    assert connection.silent_until == silence_s
    list(connection.receive(b"\xc0", 1.0))
    assert connection.silent_until == silence_s + 1.0


@pytest.mark.parametrize(
    ("keep_alive_s", "silence_s"), [(60, 90), (1177, 1765.5), (1178, 1767), (65_535, 1767), (0, 1767)]
)
def test_iot_hub_honours_a_keep_alive_of_1177_seconds(keep_alive_s: int, silence_s: float) -> None:
    """IoT Hub closes after at most 29.45 minutes of silence (ref 4.11)."""
    assert opened(keep_alive_s, MAX_IDLE_AT_IOT_HUB_S).silent_until == silence_s


def test_connect_must_arrive_within_a_minute() -> None:
    """Single bytes do not extend the time (ref 4.1 ConnectArrivalTimeout)."""
    connection = ServerConnection(5.0)
    list(connection.receive(CONNECT.encode()[:5], 50.0))
    assert connection.silent_until == 5.0 + CONNECT_ARRIVAL_S
