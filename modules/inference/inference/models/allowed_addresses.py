"""SSRF guard: the IP addresses that a download may connect to.

The check takes the address of the connection, not the host name: a name may resolve to another address each
time. Private networks are allowed, because factories keep their files there.

>>> why_forbidden("169.254.169.254", frozenset({"link-local"}))
'metadata'
>>> why_forbidden("10.0.0.7", frozenset())
''
"""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

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
        "169.254.169.254",  # Azure, AWS, Google
        "168.63.129.16",  # Azure's WireServer
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS over IPv6
    )
)


def why_forbidden(address: str, allowed: frozenset[str]) -> str:
    """The forbidden kind that this address belongs to, or "" if a download may connect to it."""
    inner = _inner(ip_address(address.partition("%")[0]))
    if inner in _METADATA:
        return "metadata"
    for kind, includes in KINDS.items():
        if includes(inner):
            return "" if kind in allowed else kind
    # is_reserved would include 64:ff9b::/96, through which IPv6-only networks reach the IPv4 internet.
    return "unspecified" if inner.is_unspecified else "multicast" if inner.is_multicast else ""


def _inner(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one: mapped, 6to4, NAT64."""
    if isinstance(address, IPv4Address):
        return address
    if int(address) >> 32 == int(IPv6Address("64:ff9b::")) >> 32:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
