"""SSRF guard: the IP addresses that a download may connect to.

The check takes the address of the connection, not the host name: a name may resolve to another address each
time. Private networks are allowed, because factories keep their files there.

An IPv6 address is judged by what it leads to: translators and tunnels send it on to the IPv4 address inside.

>>> why_forbidden("169.254.169.254", frozenset({"link-local"}))
'metadata'
>>> why_forbidden("64:ff9b::127.0.0.1", frozenset())
'loopback'
>>> why_forbidden("10.0.0.7", frozenset())
''
"""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

#: The kinds of addresses that MODEL_SOURCE_ALLOW may allow.
KINDS: Mapping[str, Callable[[Address], bool]] = {
    "loopback": lambda address: address.is_loopback,
    "link-local": lambda address: address.is_link_local,
}
# Metadata services of clouds, which hand out tokens. They are never allowed.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, Oracle and others
        "169.254.170.2",  # AWS ECS
        "169.254.170.23",  # AWS EKS
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "168.63.129.16",  # Azure's WireServer
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle Classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS EKS
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fe80::a9fe:a9fe",  # OpenStack
    )
)
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_BROADCAST = IPv4Address("255.255.255.255")
_IPV4 = 0xFFFF_FFFF
_ORDER = ("metadata", *KINDS, "unspecified", "multicast")


def why_forbidden(address: str, allowed: frozenset[str]) -> str:
    """The forbidden kind that this address belongs to, or "" if a download may connect to it."""
    outer = ip_address(address.partition("%")[0])
    kinds = {_kind(outer)}
    if isinstance(outer, IPv6Address):
        kinds |= {_kind(inner) for inner in _inside(outer)}
        # Which prefix a local translator uses is unknown, so these are possible only.
        kinds |= {_kind(inner) for inner in _perhaps_inside(outer)} & {"metadata", *KINDS}
    return next((kind for kind in _ORDER if kind in kinds - allowed), "")


def _kind(address: Address) -> str:
    if address in _METADATA:
        return "metadata"
    for kind, includes in KINDS.items():
        if includes(address):
            return kind
    # is_reserved would include 64:ff9b::/96, through which IPv6-only networks reach the IPv4 internet.
    if address.is_unspecified or address in _THIS_NETWORK:
        return "unspecified"
    return "multicast" if address.is_multicast or address == _BROADCAST else ""


def _inside(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to this address are sent on to."""
    value = int(address)
    last = IPv4Address(value & _IPV4)
    if value >> 32 == 0 and value > 1:  # IPv4-compatible (RFC 4291, 2.5.5.1)
        yield last
    if value >> 32 in (0xFFFF, 0xFFFF_0000):  # mapped (RFC 4291), translated (RFC 2765)
        yield last
    if value >> 32 == int(IPv6Address("64:ff9b::")) >> 32 or _is_local_nat64(value):  # RFC 6052, RFC 8215
        yield last
    if value >> 32 & 0xFCFF_FFFF == 0x5EFE:  # ISATAP (RFC 5214), whose first 64 bits are of any network
        yield last
    if value >> 112 == 0x2002:  # 6to4 (RFC 3056)
        yield IPv4Address(value >> 80 & _IPV4)
    if value >> 96 == 0x2001_0000:  # Teredo (RFC 4380): server, and client with its bits inverted
        yield IPv4Address(value >> 64 & _IPV4)
        yield IPv4Address(value & _IPV4 ^ _IPV4)


def _perhaps_inside(address: IPv6Address) -> Iterator[IPv4Address]:
    """In 64:ff9b:1::/48, prefixes of 48, 56 and 64 bits; bits 64 to 71 stay free (RFC 6052, 2.2)."""
    value = int(address)
    if _is_local_nat64(value):
        without_free = (value >> 64 << 56) | (value & (1 << 56) - 1)  # 120 bits
        for prefix in (48, 56, 64):
            yield IPv4Address(without_free >> (120 - prefix - 32) & _IPV4)


def _is_local_nat64(value: int) -> bool:
    return value >> 80 == int(IPv6Address("64:ff9b:1::")) >> 80
