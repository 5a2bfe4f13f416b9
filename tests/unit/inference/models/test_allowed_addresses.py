"""The addresses that a download may not connect to."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from inference.models.allowed_addresses import KINDS, why_forbidden

NONE: frozenset[str] = frozenset()


#: Addresses that lead to 127.0.0.1, by the way they contain it.
LOOPBACK = {
    "itself": "127.0.0.1",
    "of the whole network": "127.31.0.9",
    "IPv6": "::1",
    "mapped": "::ffff:127.0.0.1",
    "translated": "::ffff:0:127.0.0.1",
    "compatible": "::127.0.0.1",
    "NAT64": "64:ff9b::127.0.0.1",
    "NAT64, local /96": "64:ff9b:1::127.0.0.1",
    "NAT64, local /96 of another network": "64:ff9b:1:abcd:1:2:127.0.0.1",
    "6to4": "2002:7f00:1::1",
    "Teredo client": "2001:0:1408:4001:0:fbff:80ff:fffe",
    "Teredo server": "2001:0:7f00:1:0:fbff:ebf7:bffe",
    "ISATAP": "2603:1030::5efe:127.0.0.1",
    "ISATAP, unique": "2603:1030::200:5efe:127.0.0.1",
    "scoped": "::ffff:127.0.0.1%eth0",
}
#: RFC 6052: with these prefixes the free bits 64 to 71 are inside or before the IPv4 address.
NAT64_PREFIXES = {
    "NAT64, local /48": "64:ff9b:1:7f00:0:100::",
    "NAT64, local /56": "64:ff9b:1:7f:0:1::",
    "NAT64, local /64": "64:ff9b:1:0:7f:0:100:0",
}
METADATA = (
    "169.254.169.254",  # AWS, Azure, Google, Oracle and others
    "169.254.170.2",  # AWS ECS: credentials of a task
    "169.254.170.23",  # AWS EKS: credentials of a pod
    "169.254.0.23",  # Tencent
    "169.254.42.42",  # Scaleway
    "168.63.129.16",  # Azure: WireServer
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle Classic
    "fd00:ec2::254",  # AWS
    "fd00:ec2::23",  # AWS EKS
    "fd20:ce::254",  # Google
    "fd00:42::42",  # Scaleway
    "fe80::a9fe:a9fe",  # OpenStack
)


@pytest.mark.parametrize("way", LOOPBACK)
def test_an_address_is_judged_by_what_it_leads_to(way: str) -> None:
    """Whatever contains 127.0.0.1 is loopback, and MODEL_SOURCE_ALLOW allows it as that."""
    assert why_forbidden(LOOPBACK[way], NONE) == "loopback"
    assert why_forbidden(LOOPBACK[way], frozenset({"loopback"})) == ""


@pytest.mark.parametrize("way", NAT64_PREFIXES)
def test_a_local_translator_may_use_any_prefix(way: str) -> None:
    """The device does not know which; so what may lead to 127.0.0.1 is forbidden."""
    assert why_forbidden(NAT64_PREFIXES[way], NONE) == "loopback"


@pytest.mark.parametrize("address", METADATA)
def test_metadata_services_are_never_allowed(address: str) -> None:
    """Also where link-local is allowed, and inside IPv6."""
    assert why_forbidden(address, NONE) == "metadata"
    assert why_forbidden(address, frozenset(KINDS)) == "metadata"


@pytest.mark.parametrize("way", [*LOOPBACK, *NAT64_PREFIXES])
@pytest.mark.parametrize("metadata", ["169.254.169.254", "169.254.170.2", "100.100.100.200"])
def test_a_metadata_service_inside_ipv6_is_never_allowed(way: str, metadata: str) -> None:
    """The same table with another IPv4 address inside."""
    address = _with({**LOOPBACK, **NAT64_PREFIXES}[way].partition("%")[0], metadata)
    if address is not None:
        assert why_forbidden(address, frozenset(KINDS)) == "metadata"


def _with(address: str, inside: str) -> str | None:
    """The address with `inside` in the place of 127.0.0.1; None if it contains no IPv4 address."""
    outer = ip_address(address)
    if isinstance(outer, IPv4Address) or address == "::1":
        return None
    value, old, new = int(outer), int(IPv4Address("127.0.0.1")), int(IPv4Address(inside))
    inverted = 0xFFFF_FFFF
    for shift in range(0, 128, 16):
        window = (value >> shift) & 0xFFFF_FFFF
        if window in (old, old ^ inverted):
            new_window = new if window == old else new ^ inverted
            return str(IPv6Address(value ^ ((window ^ new_window) << shift)))
    return str(IPv6Address(value ^ _spread(address, old) ^ _spread(address, new)))


def _spread(address: str, inside: int) -> int:
    """RFC 6052: bits 64 to 71 stay free, so an IPv4 address may lie on both sides of them."""
    prefix = {"64:ff9b:1:7f00:0:100::": 48, "64:ff9b:1:7f:0:1::": 56, "64:ff9b:1:0:7f:0:100:0": 64}[address]
    before = 64 - prefix
    high, low = inside >> (32 - before), inside & ((1 << (32 - before)) - 1)
    return (high << 64) | (low << (56 - (32 - before)))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("169.254.1.1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("2002:a9fe:0101::1", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("64:ff9b::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("::ffff:224.0.0.1", "multicast"),
    ],
)
def test_a_forbidden_address_has_its_kind(address: str, kind: str) -> None:
    """Also in other notations of the same address."""
    assert why_forbidden(address, NONE) == kind
    assert why_forbidden(address, frozenset(KINDS)) == ("" if kind in KINDS else kind)


@pytest.mark.parametrize(
    "address",
    [
        "20.38.98.100",
        "10.1.2.3",
        "192.168.0.7",
        "100.64.0.1",
        "fd12::1",
        "2603:1030::1",
        "64:ff9b::20.38.98.100",  # IPv6-only networks reach the IPv4 internet so
        "64:ff9b:1::10.1.2.3",
        "64:ff9b:1:fffe::192.168.0.7",
        "2002:1426:6264::1",
        "::ffff:20.38.98.100",
        "fd12::5efe:10.1.2.3",
    ],
)
def test_public_and_private_networks_are_allowed(address: str) -> None:
    """Factories keep files on their own network."""
    assert why_forbidden(address, NONE) == ""


def test_each_name_allows_its_own_kind() -> None:
    """No name allows metadata addresses."""
    assert why_forbidden("127.0.0.1", frozenset({"loopback"})) == ""
    assert why_forbidden("169.254.1.1", frozenset({"loopback"})) == "link-local"
    assert why_forbidden("169.254.1.1", frozenset({"link-local"})) == ""
    assert why_forbidden("169.254.169.254", frozenset(KINDS)) == "metadata"
